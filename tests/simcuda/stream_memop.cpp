// Stream memory operations and host functions: work that talks to the host.
#include <time.h>

#include "tests/simcuda/host_callback.hpp"
#include "tests/simcuda/memory.hpp"
#include "tests/simcuda/raw_memory.hpp"
#include "tests/simcuda/stream.hpp"

namespace flexlom::sim {
namespace {

template <class Word>
bool satisfied(Word found, Word wanted, unsigned flags) {
  switch (flags & 3u) {
    case CU_STREAM_WAIT_VALUE_GEQ:
      return static_cast<std::make_signed_t<Word>>(found - wanted) >= 0;
    case CU_STREAM_WAIT_VALUE_EQ:
      return found == wanted;
    case CU_STREAM_WAIT_VALUE_AND:
      return (found & wanted) != 0;
    default:
      return ~(found | wanted) != 0;  // NOR
  }
}

template <class Ready>
void wait_until(Ready ready) {
  const timespec pause{0, 20000};
  while (!ready()) nanosleep(&pause, nullptr);
}

void check(const CUstreamBatchMemOpParams& p) {
  switch (p.operation) {
    case CU_STREAM_MEM_OP_WAIT_VALUE_32:
    case CU_STREAM_MEM_OP_WRITE_VALUE_32:
      require(p.waitValue.address && p.waitValue.address % 4 == 0);
      check_range(p.waitValue.address, 4, true);
      return;
    case CU_STREAM_MEM_OP_WAIT_VALUE_64:
    case CU_STREAM_MEM_OP_WRITE_VALUE_64:
      require(p.waitValue.address && p.waitValue.address % 8 == 0);
      check_range(p.waitValue.address, 8, true);
      return;
    case CU_STREAM_MEM_OP_FLUSH_REMOTE_WRITES:
    case CU_STREAM_MEM_OP_BARRIER:
      return;
    default:
      fail(CUDA_ERROR_INVALID_VALUE);
  }
}

CUresult batch(Call& c, CUstream handle, unsigned count, CUstreamBatchMemOpParams* list,
               unsigned flags) {
  require(list && count && count <= 256 && !flags);
  StreamRef stream = stream_of(c, handle);
  MemOpTask task;
  task.operations.assign(list, list + count);
  for (const auto& p : task.operations) check(p);
  submit(*stream, std::move(task));
  return CUDA_SUCCESS;
}

template <CUstreamBatchMemOpType operation, class Word>
CUresult one(Call& c, CUstream handle, CUdeviceptr address, Word value, unsigned flags) {
  CUstreamBatchMemOpParams p{};
  p.operation = operation;
  p.waitValue.address = address;
  p.waitValue.value64 = value;
  p.waitValue.flags = flags;
  return batch(c, handle, 1, &p, 0);
}
constexpr auto wait32 = one<CU_STREAM_MEM_OP_WAIT_VALUE_32, cuuint32_t>;
constexpr auto wait64 = one<CU_STREAM_MEM_OP_WAIT_VALUE_64, cuuint64_t>;
constexpr auto write32 = one<CU_STREAM_MEM_OP_WRITE_VALUE_32, cuuint32_t>;
constexpr auto write64 = one<CU_STREAM_MEM_OP_WRITE_VALUE_64, cuuint64_t>;

thread_local bool calling_back = false;

std::function<void()> guarded(std::function<void()> call) {
  return [call = std::move(call)] {
    calling_back = true;
    call();
    calling_back = false;
  };
}

CUresult launch_host_func(Call& c, CUstream handle, CUhostFn fn, void* data) {
  require(fn);
  StreamRef stream = stream_of(c, handle);
  submit(*stream, make_host_task(fn, data));
  return CUDA_SUCCESS;
}
CUresult add_callback(Call& c, CUstream handle, CUstreamCallback callback, void* data,
                      unsigned flags) {
  require(callback && !flags);
  StreamRef stream = stream_of(c, handle);
  HostTask task;
  task.call = guarded([=] { callback(handle, CUDA_SUCCESS, data); });
  submit(*stream, std::move(task));
  return CUDA_SUCCESS;
}

}  // namespace

bool inside_host_callback() { return calling_back; }

HostTask make_host_task(CUhostFn fn, void* data) {
  HostTask task;
  task.fn = fn;
  task.user_data = data;
  task.call = guarded([=] { fn(data); });
  return task;
}

void run_memops(const std::vector<CUstreamBatchMemOpParams>& operations) {
  for (const auto& p : operations) {
    void* at = reinterpret_cast<void*>(p.waitValue.address);
    switch (p.operation) {
      case CU_STREAM_MEM_OP_WAIT_VALUE_32:
        wait_until([&] { return satisfied(raw_load32(at), p.waitValue.value, p.waitValue.flags); });
        break;
      case CU_STREAM_MEM_OP_WAIT_VALUE_64:
        wait_until(
            [&] { return satisfied(raw_load64(at), p.waitValue.value64, p.waitValue.flags); });
        break;
      case CU_STREAM_MEM_OP_WRITE_VALUE_32:
        raw_store32(at, p.writeValue.value);
        break;
      case CU_STREAM_MEM_OP_WRITE_VALUE_64:
        raw_store64(at, p.writeValue.value64);
        break;
      default:
        break;
    }
  }
}

}  // namespace flexlom::sim

using namespace flexlom::sim;
SIM_EXPORT_PTSZ(cuStreamBatchMemOp, batch);
SIM_EXPORT_PTSZ(cuStreamBatchMemOp_v2, batch);
SIM_EXPORT_PTSZ(cuStreamWaitValue32, wait32);
SIM_EXPORT_PTSZ(cuStreamWaitValue32_v2, wait32);
SIM_EXPORT_PTSZ(cuStreamWaitValue64, wait64);
SIM_EXPORT_PTSZ(cuStreamWaitValue64_v2, wait64);
SIM_EXPORT_PTSZ(cuStreamWriteValue32, write32);
SIM_EXPORT_PTSZ(cuStreamWriteValue32_v2, write32);
SIM_EXPORT_PTSZ(cuStreamWriteValue64, write64);
SIM_EXPORT_PTSZ(cuStreamWriteValue64_v2, write64);
SIM_EXPORT_PTSZ(cuLaunchHostFunc, launch_host_func);
SIM_EXPORT_PTSZ(cuStreamAddCallback, add_callback);
