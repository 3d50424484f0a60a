// Legacy CUDA IPC: pool memory through our own exporter and importer, everything else by the
// driver.
#include "interpose/hooks/common.h"

namespace flexlom {

namespace {

// NOT_SUPPORTED: not a handle of ours.
CUresult open(Entry entry, CUdeviceptr* p, const CUipcMemHandle& opaque, unsigned int flags) {
  Runtime* rt = enter(entry);
  ipc::Handle handle;
  std::memcpy(&handle, &opaque, sizeof handle);
  if (rt == nullptr || p == nullptr ||
      std::memcmp(handle.magic, ipc::kMagic, sizeof ipc::kMagic) != 0) {
    return CUDA_ERROR_NOT_SUPPORTED;
  }
  if (flags != CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS) return CUDA_ERROR_INVALID_VALUE;
  CUcontext context = nullptr;
  int device = 0;
  const CUresult r = rt->current(&context, &device);
  if (r != CUDA_SUCCESS) return r;
  // As the driver says when a process opens its own handle.
  if (rt->exporter.is_ours(handle)) return CUDA_ERROR_INVALID_CONTEXT;
  InsidePool inside;
  return rt->importer.open(handle, device, p);
}

}  // namespace

bool bring_to_device(Runtime& runtime, CUdeviceptr p) noexcept {
  pool::Residency* residency = runtime.pool.residency();
  pool::DevicePool* owner = runtime.pool.owner(p);
  // Inside a submission the gate cannot be shut.
  if (residency == nullptr || owner == nullptr || doors::Submission::open()) return false;
  return residency->bring(*owner, nullptr, p);
}

namespace own {

CUresult cuIpcGetMemHandle(CUipcMemHandle* handle, CUdeviceptr p) {
  Runtime* rt = enter(Entry::cuIpcGetMemHandle);
  if (rt == nullptr || handle == nullptr || rt->pool.owner(p) == nullptr)
    return FORWARD(cuIpcGetMemHandle, handle, p);
  CUcontext context = nullptr;
  int device = 0;
  CUresult r = rt->current(&context, &device);
  if (r != CUDA_SUCCESS) return r;
  InsidePool inside;
  r = share_from_device(*rt, p, CUDA_ERROR_MAP_FAILED,
                        [&]() noexcept { return rt->exporter.get_handle(p, handle); });
  if (r == CUDA_ERROR_MAP_FAILED) {
    rt->listener.warned(
        "cuIpcGetMemHandle refused: part of the allocation lies in host memory, which cannot be "
        "shared");
  }
  return r;
}

CUresult cuIpcOpenMemHandle(CUdeviceptr* p, CUipcMemHandle handle, unsigned int flags) {
  const CUresult r = open(Entry::cuIpcOpenMemHandle, p, handle, flags);
  return r != CUDA_ERROR_NOT_SUPPORTED ? r : FORWARD(cuIpcOpenMemHandle, p, handle, flags);
}

CUresult cuIpcOpenMemHandle_v2(CUdeviceptr* p, CUipcMemHandle handle, unsigned int flags) {
  const CUresult r = open(Entry::cuIpcOpenMemHandle_v2, p, handle, flags);
  return r != CUDA_ERROR_NOT_SUPPORTED ? r : FORWARD(cuIpcOpenMemHandle_v2, p, handle, flags);
}

CUresult cuIpcCloseMemHandle(CUdeviceptr p) {
  Runtime* rt = enter(Entry::cuIpcCloseMemHandle);
  if (rt != nullptr) {
    InsidePool inside;
    // Closing has to wait for the context's work, and waiting breaks any open capture.
    // Refused, and nothing lost: the mapping stays until it is closed after the capture.
    ipc::Importer::Range opened{};
    if (rt->pool.fence().capture_open() && rt->importer.find(p, &opened)) {
      return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    const CUresult r = rt->importer.close(p);
    if (r != CUDA_ERROR_NOT_FOUND) return r;
  }
  return FORWARD(cuIpcCloseMemHandle, p);
}

}  // namespace own
}  // namespace flexlom
