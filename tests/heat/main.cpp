// GCC 12 sees uninitialised members in std::regex, which Catch uses, when it instruments for ASan.
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#define CATCH_CONFIG_RUNNER
#include "tests/heat/testing.h"

#include <cstdio>
#include <map>

#include "kernels/testing.h"

namespace {

struct Counter : Catch::TestEventListenerBase {
  using TestEventListenerBase::TestEventListenerBase;
  void testRunEnded(const Catch::TestRunStats& run) override { counts = run.totals.testCases; }
  static Catch::Counts counts;
};
Catch::Counts Counter::counts;
CATCH_REGISTER_LISTENER(Counter)

struct Fakes {
  std::map<uintptr_t, std::vector<testing::Param>> functions, kernels;
  std::atomic<unsigned> questions{0};
} fakes;

CUresult info(const std::map<uintptr_t, std::vector<testing::Param>>& all, uintptr_t handle,
              size_t index, size_t* offset, size_t* bytes) {
  ++fakes.questions;
  const auto found = all.find(handle);
  if (found == all.end()) return CUDA_ERROR_INVALID_HANDLE;
  if (index >= found->second.size()) return CUDA_ERROR_INVALID_VALUE;
  *offset = found->second[index].offset;
  if (bytes != nullptr) *bytes = found->second[index].bytes;
  return CUDA_SUCCESS;
}
CUresult func_info(CUfunction f, size_t i, size_t* offset, size_t* bytes) {
  return info(fakes.functions, reinterpret_cast<uintptr_t>(f), i, offset, bytes);
}
CUresult kernel_info(CUkernel k, size_t i, size_t* offset, size_t* bytes) {
  return info(fakes.kernels, reinterpret_cast<uintptr_t>(k), i, offset, bytes);
}

std::atomic<void*>& original(testing::Entry e) {
  flexlom::doors::find_originals();
  return flexlom::doors::originals[flexlom::doors::index_of(e)];
}

}  // namespace

namespace testing {

// What other tests noted is forgotten: a driver may have put their memory anywhere.
void note_pool() {
  flexlom::heat::detail::range_high = 0;
  flexlom::heat::detail::range_low = ~CUdeviceptr{0};
  flexlom::heat::note_range(kPool, kPoolBytes);
}

Words words_of(const Named& named) {
  Words found;
  flexlom::heat::for_each_word(named, [&](CUdeviceptr w) { found.push_back(w); });
  return found;
}

FakeKernels::FakeKernels()
    : func_info_(original(Entry::cuFuncGetParamInfo).exchange(reinterpret_cast<void*>(&func_info))),
      kernel_info_(
          original(Entry::cuKernelGetParamInfo).exchange(reinterpret_cast<void*>(&kernel_info))) {
  flexlom::heat::forget_handles();
  fakes.functions.clear();
  fakes.kernels.clear();
  fakes.questions = 0;
}
FakeKernels::~FakeKernels() {
  original(Entry::cuFuncGetParamInfo) = func_info_;
  original(Entry::cuKernelGetParamInfo) = kernel_info_;
  flexlom::heat::forget_handles();
}
CUfunction FakeKernels::function(uintptr_t handle, std::vector<Param> params) {
  fakes.kernels.erase(handle);
  fakes.functions[handle] = std::move(params);
  return reinterpret_cast<CUfunction>(handle);
}
CUfunction FakeKernels::kernel(uintptr_t handle, std::vector<Param> params) {
  fakes.functions.erase(handle);
  fakes.kernels[handle] = std::move(params);
  return reinterpret_cast<CUfunction>(handle);
}
unsigned FakeKernels::questions() const { return fakes.questions; }

Replaced::Replaced(Entry e, void* call) : entry_(e), before_(original(e).exchange(call)) {}
Replaced::~Replaced() { original(entry_) = before_; }

Session::Session() {
  REQUIRE_OK(cuInit(0));
  REQUIRE_OK(cuDevicePrimaryCtxRetain(&context, 0));
  REQUIRE_OK(cuCtxSetCurrent(context));
  REQUIRE_OK(cuModuleLoadData(&module, flexlom_testing_fatbin));
  REQUIRE_OK(cuLibraryLoadData(&library, flexlom_testing_fatbin, nullptr, nullptr, 0, nullptr,
                               nullptr, 0));
}
Session::~Session() {
  flexlom::heat::forget_handles();
  cuCtxSetCurrent(context);
  CHECK_OK(cuLibraryUnload(library));
  CHECK_OK(cuModuleUnload(module));
  CHECK_OK(cuDevicePrimaryCtxRelease_v2(0));
  cuCtxSetCurrent(nullptr);
}
CUfunction Session::function(const char* name) const {
  CUfunction found = nullptr;
  REQUIRE_OK(cuModuleGetFunction(&found, module, name));
  return found;
}
CUfunction Session::kernel(const char* name) const {
  CUkernel found = nullptr;
  REQUIRE_OK(cuLibraryGetKernel(&found, library, name));
  return reinterpret_cast<CUfunction>(found);
}

}  // namespace testing

int main(int argc, char** argv) {
  const int status = Catch::Session().run(argc, argv);
  std::printf("%zu passed, %zu failed, 0 skipped\n", static_cast<size_t>(Counter::counts.passed),
              static_cast<size_t>(Counter::counts.failed));
  return status;
}
