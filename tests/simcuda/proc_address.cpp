// cuGetProcAddress: base names to ABI symbols, by version and flavour of the NULL stream.
//
// As on the real driver every pointer returned is an exported symbol, and names with a suffix are
// not found, which is not an error.
#include "tests/simcuda/proc_address.hpp"

#include <algorithm>
#include <string>
#include <string_view>
#include <unordered_map>

#include "tests/simcuda/state.hpp"

namespace flexlom::sim {
namespace {

// From which version a name means its _v2, _v3 or _v4. Names not listed have it from 3020 (_v2)
// or 12000 (later ones).
struct Since {
  const char* symbol;
  int version;
};
constexpr Since since[] = {
    {"cuGetProcAddress_v2", 12000},
    {"cuCtxDestroy_v2", 4000},
    {"cuCtxPopCurrent_v2", 4000},
    {"cuCtxPushCurrent_v2", 4000},
    {"cuStreamDestroy_v2", 4000},
    {"cuEventDestroy_v2", 4000},
    {"cuTexRefSetAddress2D_v2", 3020},
    {"cuTexRefSetAddress2D_v3", 4010},
    {"cuMemHostRegister_v2", 6050},
    {"cuLinkCreate_v2", 6050},
    {"cuLinkAddData_v2", 6050},
    {"cuLinkAddFile_v2", 6050},
    {"cuGraphicsResourceSetMapFlags_v2", 6050},
    {"cuStreamBeginCapture_v2", 10010},
    {"cuDevicePrimaryCtxRelease_v2", 11000},
    {"cuDevicePrimaryCtxReset_v2", 11000},
    {"cuDevicePrimaryCtxSetFlags_v2", 11000},
    {"cuIpcOpenMemHandle_v2", 11000},
    {"cuGraphInstantiate_v2", 11000},
    {"cuStreamGetCaptureInfo_v2", 11030},
    {"cuCtxCreate_v3", 11040},
    {"cuDeviceGetUuid_v2", 11040},
    {"cuStreamWaitValue32_v2", 11070},
    {"cuStreamWaitValue64_v2", 11070},
    {"cuStreamWriteValue32_v2", 11070},
    {"cuStreamWriteValue64_v2", 11070},
    {"cuStreamBatchMemOp_v2", 11070},
    {"cuGraphAddKernelNode_v2", 12000},
    {"cuGraphKernelNodeGetParams_v2", 12000},
    {"cuGraphKernelNodeSetParams_v2", 12000},
    {"cuGraphExecKernelNodeSetParams_v2", 12000},
    {"cuGraphExecUpdate_v2", 12000},
    {"cuMemPrefetchAsync_v2", 12020},
    {"cuMemAdvise_v2", 12020},
    {"cuStreamGetCaptureInfo_v3", 12030},
    {"cuGraphGetEdges_v2", 12030},
    {"cuGraphNodeGetDependencies_v2", 12030},
    {"cuGraphNodeGetDependentNodes_v2", 12030},
    {"cuGraphAddDependencies_v2", 12030},
    {"cuGraphRemoveDependencies_v2", 12030},
    {"cuGraphAddNode_v2", 12030},
    {"cuStreamUpdateCaptureDependencies_v2", 12030},
    {"cuStreamGetCtx_v2", 12050},
    {"cuCtxCreate_v4", 12050},
    {"cuEventElapsedTime_v2", 12080},
    {"cuMemcpyBatchAsync_v2", 13000},
    {"cuMemcpy3DBatchAsync_v2", 13000},
    {"cuCtxGetDevice_v2", 13000},
    {"cuCtxSynchronize_v2", 13000},
    {"cuMemGetAttribute_v2", 99999},
};

// Names that older drivers lack altogether. What is not listed has always been there.
struct Prefix {
  const char* text;
  int version;
};
constexpr Prefix introduced[] = {
    {"cuMemCreate", 10020},
    {"cuMemMap", 10020},
    {"cuMemUnmap", 10020},
    {"cuMemRelease", 10020},
    {"cuMemAddress", 10020},
    {"cuMemSetAccess", 10020},
    {"cuMemGetAccess", 10020},
    {"cuMemExportToShareable", 10020},
    {"cuMemGetAllocation", 10020},
    {"cuMemImportFromShareable", 10020},
    {"cuMemRetainAllocation", 11000},
    {"cuMemAllocAsync", 11020},
    {"cuMemAllocFromPool", 11020},
    {"cuMemFreeAsync", 11020},
    {"cuMemPool", 11020},
    {"cuLaunchKernelEx", 11060},
    {"cuLibrary", 12000},
    {"cuKernel", 12000},
    {"cuMulticast", 12010},
    {"cuFuncGetName", 12030},
    {"cuFuncGetParamInfo", 12040},
    {"cuKernelGetParamInfo", 12040},
    {"cuCtxRecordEvent", 12050},
    {"cuCtxWaitEvent", 12050},
    {"cuGreenCtx", 12040},
    {"cuMemcpyBatchAsync", 12080},
    {"cuCheckpoint", 12080},
    {"cuLogs", 12090},
};

int introduced_at(std::string_view name) {
  for (const Prefix& known : introduced)
    if (name.starts_with(known.text)) return known.version;
  return 0;
}

void* find(const std::string& symbol) {
  static const auto* const table = [] {
    auto* made = new std::unordered_map<std::string_view, void*>;
    for (unsigned i = 0; i < export_count; ++i)
      (*made)[exports[i].symbol] = reinterpret_cast<void*>(exports[i].address);
    return made;
  }();
  const auto found = table->find(symbol);
  return found == table->end() ? nullptr : found->second;
}

int version_of(const std::string& symbol, int number) {
  for (const Since& known : since)
    if (symbol == known.symbol) return known.version;
  return number == 2 ? 3020 : 12000;
}

bool has_suffix(std::string_view name) {
  const size_t at = name.rfind('_');
  if (at == std::string_view::npos) return false;
  const std::string_view tail = name.substr(at + 1);
  return tail == "ptsz" || tail == "ptds" || (tail.size() == 2 && tail[0] == 'v');
}

// Null when the name has a per-thread twin that is younger than the version.
void* look_up(const std::string& name, int version, bool per_thread) {
  std::string symbol = name;
  for (int number = 4; number >= 2; --number) {
    const std::string candidate = name + "_v" + std::to_string(number);
    if (!find(candidate) || version_of(candidate, number) > version) continue;
    symbol = candidate;
    break;
  }
  if (per_thread)
    for (const char* twin : {"_ptsz", "_ptds"})
      if (void* found = find(symbol + twin)) return version >= 7000 ? found : nullptr;
  return find(symbol);
}

CUresult get_proc_address_v2(Call&, const char* name, void** out, int version, cuuint64_t flags,
                             CUdriverProcAddressQueryResult* status) {
  require(name && out && *name);
  *out = nullptr;
  CUdriverProcAddressQueryResult result = CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
  const int introduction = introduced_at(name);
  if (!has_suffix(name) && find(name) && introduction <= options().driver_version) {
    if (introduction <= version) {
      const bool per_thread = flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM;
      *out = look_up(name, std::min(version, options().driver_version), per_thread);
    }
    result = *out ? CU_GET_PROC_ADDRESS_SUCCESS : CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT;
  }
  if (status) *status = result;
  return CUDA_SUCCESS;
}

CUresult get_proc_address(Call& c, const char* name, void** out, int version, cuuint64_t flags) {
  CUdriverProcAddressQueryResult status;
  const CUresult code = get_proc_address_v2(c, name, out, version, flags, &status);
  if (code == CUDA_SUCCESS && !*out) return CUDA_ERROR_NOT_FOUND;
  return code;
}

// No private tables: a static cudart cannot run here, and says so.
CUresult get_export_table(Call&, const void** out, const CUuuid* id) {
  require(out && id);
  *out = nullptr;
  return CUDA_ERROR_NOT_FOUND;
}

}  // namespace
}  // namespace flexlom::sim

using namespace flexlom::sim;
SIM_EXPORT_EARLY(cuGetProcAddress, get_proc_address);
SIM_EXPORT_EARLY(cuGetProcAddress_v2, get_proc_address_v2);
SIM_EXPORT_EARLY(cuGetExportTable, get_export_table);
