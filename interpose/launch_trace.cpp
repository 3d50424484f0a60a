#include "interpose/launch_trace.h"

#include "interpose/doors/originals.h"

namespace flexlom {

namespace {

constexpr uint32_t kTimedAtFirst = 4;
constexpr uint32_t kTimedEvery = 64;
constexpr size_t kMostFunctions = 1u << 16;  // a program that makes kernels without end

// CUDA Driver API 6.12 and 6.14; drivers before 12.3 have no such call.
const char* name_of(const void* handle) noexcept {
  void* const given = const_cast<void*>(handle);
  const char* name = nullptr;
  const auto of_function = FLEXLOM_ORIGINAL(cuFuncGetName);
  if (of_function != nullptr &&
      of_function(&name, static_cast<CUfunction>(given)) == CUDA_SUCCESS) {
    return name;
  }
  const auto of_kernel = FLEXLOM_ORIGINAL(cuKernelGetName);
  if (of_kernel != nullptr && of_kernel(&name, static_cast<CUkernel>(given)) == CUDA_SUCCESS)
    return name;
  return nullptr;
}

}  // namespace

LaunchTrace::Seen LaunchTrace::seen(const heat::Named& named, uint64_t identity) noexcept {
  const uint64_t key =
      identity != 0 ? identity : static_cast<uint64_t>(reinterpret_cast<uintptr_t>(named.function));
  Seen seen;
  try {
    std::lock_guard lock(mutex_);
    const auto found = functions_.find(key);
    if (found != functions_.end()) {
      Function& function = found->second;
      const uint32_t n = ++function.launches;
      return {function.number, n, n <= kTimedAtFirst || n % kTimedEvery == 0};
    }
    if (functions_.size() >= kMostFunctions) return seen;
    const auto number = static_cast<uint32_t>(functions_.size() + 1);
    functions_[key] = {number, 1};
    trace::FunctionRecord record;
    record.number = number;
    record.graph = named.graph != nullptr;
    record.threads = named.work;
    if (named.work == 0 && !record.graph) {
      record.call = static_cast<const char*>(named.function);
    } else if (!record.graph && !named.unknown) {  // then the driver has seen the handle
      record.name = name_of(named.function);
    }
    writer_->function(record);
    return {number, 1, true};
  } catch (...) {
    return seen;
  }
}

void LaunchTrace::launched(uint32_t number, int device, const pool::TouchedBases& bases,
                           uint64_t at_ns) noexcept {
  if (number == 0 || bases.count == 0) return;
  trace::LaunchRecord record;
  record.function = number;
  record.device = device;
  record.bases = bases.bases;
  record.count = bases.count;
  record.t_ns = at_ns;
  writer_->launch(record);
}

void LaunchTrace::timed(const Sampler::Result& result) noexcept {
  trace::TimedRecord record;
  {
    std::lock_guard lock(mutex_);
    const auto found = functions_.find(result.function);
    if (found == functions_.end()) return;
    record.function = found->second.number;
  }
  record.launch = result.launch;
  record.elapsed_ns = result.elapsed_ns;
  record.host_ns = result.host_ns;
  record.spilled_bytes = result.spilled_bytes;
  writer_->timed(record);
}

}  // namespace flexlom
