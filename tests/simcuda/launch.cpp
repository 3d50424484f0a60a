#include "tests/simcuda/launch.hpp"

#include <setjmp.h>
#include <signal.h>

#include <algorithm>
#include <cstring>

#include "tests/simcuda/kernels.hpp"
#include "tests/simcuda/module.hpp"
#include "tests/simcuda/stream.hpp"

namespace flexlom::sim {
namespace {

constexpr uint64_t kMaxThreads = 1024;
constexpr unsigned kMaxShared = 232448;  // bytes, opt-in limit

void check_shape(const unsigned (&grid)[3], const unsigned (&block)[3], unsigned shared_bytes) {
  for (int i = 0; i < 3; ++i) require(grid[i] && block[i]);
  require(grid[0] <= 0x7fffffffu && grid[1] <= 65535 && grid[2] <= 65535);
  require(block[0] <= 1024 && block[1] <= 1024 && block[2] <= 64);
  require(uint64_t{block[0]} * block[1] * block[2] <= kMaxThreads);
  require(shared_bytes <= kMaxShared);
}

// The `extra` form: one buffer that is laid out already.
void copy_packed(const Kernel& kernel, void** extra, std::vector<std::byte>& to) {
  const void* buffer = nullptr;
  const size_t* bytes = nullptr;
  for (; *extra != CU_LAUNCH_PARAM_END; extra += 2) {
    if (*extra == CU_LAUNCH_PARAM_BUFFER_POINTER) {
      buffer = extra[1];
    } else if (*extra == CU_LAUNCH_PARAM_BUFFER_SIZE) {
      bytes = static_cast<const size_t*>(extra[1]);
    } else {
      fail(CUDA_ERROR_INVALID_VALUE);
    }
  }
  require(kernel.param_bytes == 0 || (buffer && bytes && *bytes >= kernel.param_bytes));
  if (kernel.param_bytes) memcpy(to.data(), buffer, kernel.param_bytes);
}

CUresult go(const Call& c, CUfunction function, const unsigned (&grid)[3],
            const unsigned (&block)[3], unsigned shared_bytes, CUstream handle, void** params,
            void** extra) {
  StreamRef stream = stream_of(c, handle);
  KernelTask task = make_kernel_task(function, grid, block, shared_bytes, params, extra);
  cost_us(3.4);
  submit(*stream, std::move(task));
  return CUDA_SUCCESS;
}

CUresult launch_kernel(Call& c, CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                       unsigned by, unsigned bz, unsigned shared_bytes, CUstream stream,
                       void** params, void** extra) {
  return go(c, f, {gx, gy, gz}, {bx, by, bz}, shared_bytes, stream, params, extra);
}
CUresult launch_cooperative(Call& c, CUfunction f, unsigned gx, unsigned gy, unsigned gz,
                            unsigned bx, unsigned by, unsigned bz, unsigned shared_bytes,
                            CUstream stream, void** params) {
  return go(c, f, {gx, gy, gz}, {bx, by, bz}, shared_bytes, stream, params, nullptr);
}
CUresult launch_kernel_ex(Call& c, const CUlaunchConfig* config, CUfunction f, void** params,
                          void** extra) {
  require(config && (config->attrs || !config->numAttrs));
  return go(c, f, {config->gridDimX, config->gridDimY, config->gridDimZ},
            {config->blockDimX, config->blockDimY, config->blockDimZ}, config->sharedMemBytes,
            config->hStream, params, extra);
}

int blocks_per_sm(int block_size) { return block_size > 0 ? std::min(32, 2048 / block_size) : 0; }

CUresult occupancy_blocks(Call&, int* out, CUfunction f, int block_size, size_t) {
  require(out && block_size > 0);
  launchable(f);
  *out = blocks_per_sm(block_size);
  return CUDA_SUCCESS;
}
CUresult occupancy_blocks_flags(Call& c, int* out, CUfunction f, int block_size, size_t shared,
                                unsigned) {
  return occupancy_blocks(c, out, f, block_size, shared);
}
CUresult occupancy_block_size(Call&, int* grid, int* block, CUfunction f, CUoccupancyB2DSize,
                              size_t, int limit) {
  require(grid && block);
  launchable(f);
  *block = limit > 0 ? std::min(limit, 1024) : 1024;
  *grid = 132 * blocks_per_sm(*block);
  return CUDA_SUCCESS;
}
CUresult occupancy_block_size_flags(Call& c, int* grid, int* block, CUfunction f,
                                    CUoccupancyB2DSize shared_of, size_t shared, int limit,
                                    unsigned) {
  return occupancy_block_size(c, grid, block, f, shared_of, shared, limit);
}
CUresult occupancy_shared(Call&, size_t* out, CUfunction f, int blocks, int block_size) {
  require(out && blocks > 0 && block_size > 0);
  launchable(f);
  *out = kMaxShared / static_cast<unsigned>(blocks);
  return CUDA_SUCCESS;
}
CUresult occupancy_cluster_size(Call&, int* out, CUfunction f, const CUlaunchConfig* config) {
  require(out && config);
  launchable(f);
  *out = 8;
  return CUDA_SUCCESS;
}
CUresult occupancy_clusters(Call&, int* out, CUfunction f, const CUlaunchConfig* config) {
  require(out && config);
  launchable(f);
  *out = 16;
  return CUDA_SUCCESS;
}

}  // namespace

KernelTask make_kernel_task(CUfunction function, const unsigned (&grid)[3],
                            const unsigned (&block)[3], unsigned shared_bytes, void** params,
                            void** extra) {
  KernelTask task;
  task.kernel = &launchable(function);
  task.handle = function;
  check_shape(grid, block, shared_bytes);
  std::copy(grid, grid + 3, task.grid);
  std::copy(block, block + 3, task.block);
  task.shared_bytes = shared_bytes;
  task.params.resize(task.kernel->param_bytes);
  require(!(params && extra));
  if (extra) {
    copy_packed(*task.kernel, extra, task.params);
  } else {
    require(params || task.kernel->params.empty());
    for (size_t i = 0; i < task.kernel->params.size(); ++i)
      memcpy(task.params.data() + task.kernel->params[i].offset, params[i],
             task.kernel->params[i].bytes);
  }
  return task;
}

namespace {

thread_local sigjmp_buf* after_fault = nullptr;

void faulted(int signal) {
  if (after_fault != nullptr) siglongjmp(*after_fault, 1);
  // Not a kernel's: what would have happened.
  ::signal(signal, SIG_DFL);
}

}  // namespace

void run_kernel(const KernelTask& task) {
  if (!options().illegal_address) return task.kernel->run(task.params.data());
  static const bool installed = [] {
    struct sigaction action {};
    action.sa_handler = &faulted;
    action.sa_flags = SA_NODEFER;
    return sigaction(SIGSEGV, &action, nullptr) == 0 && sigaction(SIGBUS, &action, nullptr) == 0;
  }();
  sigjmp_buf here;
  // Kernels are plain loops over memory: nothing of theirs is left behind by the jump.
  if (installed && sigsetjmp(here, 0) == 0) {
    after_fault = &here;
    task.kernel->run(task.params.data());
  } else {
    break_contexts();
  }
  after_fault = nullptr;
}

}  // namespace flexlom::sim

using namespace flexlom::sim;
SIM_EXPORT_PTSZ(cuLaunchKernel, launch_kernel);
SIM_EXPORT_PTSZ(cuLaunchKernelEx, launch_kernel_ex);
SIM_EXPORT_PTSZ(cuLaunchCooperativeKernel, launch_cooperative);
SIM_EXPORT(cuOccupancyMaxActiveBlocksPerMultiprocessor, occupancy_blocks);
SIM_EXPORT(cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags, occupancy_blocks_flags);
SIM_EXPORT(cuOccupancyMaxPotentialBlockSize, occupancy_block_size);
SIM_EXPORT(cuOccupancyMaxPotentialBlockSizeWithFlags, occupancy_block_size_flags);
SIM_EXPORT(cuOccupancyAvailableDynamicSMemPerBlock, occupancy_shared);
SIM_EXPORT(cuOccupancyMaxPotentialClusterSize, occupancy_cluster_size);
SIM_EXPORT(cuOccupancyMaxActiveClusters, occupancy_clusters);
