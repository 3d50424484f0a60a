// A DMA-BUF of memory that was spilled: bad arguments get the driver's INVALID_VALUE wherever the
// memory lies (what a real GPU answers is in tests/conformance/h200.answers), good ones a refusal.
// The simulated driver has no DMA-BUF; bare there is nothing to see.
#include <cuda.h>
#include <unistd.h>

#include "tests/preload/session.hpp"

using namespace preload;

int main() {
  void* driver = open_driver();
  const Cuda cuda(driver);
  cuda.start();
  if (!under_flexlom()) return verdict();
  const auto ask =
      look_up<decltype(&cuMemGetHandleForAddressRange)>(driver, "cuMemGetHandleForAddressRange");
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t mapped = size_t{70} << 20, bytes = mapped - 5000;
  CUdeviceptr p = 0;
  CHECK_OK(cuda.cuMemAlloc_v2_(&p, bytes));
  const auto dma_buf = CU_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD;
  const struct {
    const char* what;
    CUdeviceptr address;
    size_t bytes;
    CUmemRangeHandleType type;
    CUresult answer;
  } rows[] = {
      {"whole", p, mapped, dma_buf, CUDA_ERROR_NOT_SUPPORTED},
      {"first page", p, page, dma_buf, CUDA_ERROR_NOT_SUPPORTED},
      {"last whole page", p + mapped - 2 * page, page, dma_buf, CUDA_ERROR_NOT_SUPPORTED},
      {"odd size", p, 1000, dma_buf, CUDA_ERROR_INVALID_VALUE},
      {"odd address", p + 512, page, dma_buf, CUDA_ERROR_INVALID_VALUE},
      {"no size", p, 0, dma_buf, CUDA_ERROR_INVALID_VALUE},
      {"beyond the end", p, mapped + page, dma_buf, CUDA_ERROR_INVALID_VALUE},
      {"beyond the end, from inside", p + page, mapped, dma_buf, CUDA_ERROR_INVALID_VALUE},
      {"longer than all memory", p, ~size_t{0} - page + 1, dma_buf, CUDA_ERROR_INVALID_VALUE},
      {"unknown type", p, page, static_cast<CUmemRangeHandleType>(9), CUDA_ERROR_INVALID_VALUE},
  };
  for (const auto& row : rows) {
    int fd = -1;
    const CUresult answer = ask(&fd, row.address, row.bytes, row.type, 0);
    CHECK(fd == -1);
    CHECK(answer == row.answer);
    if (answer != row.answer)
      std::fprintf(stderr, "%s: code %d\n", row.what, static_cast<int>(answer));
  }
  CHECK_OK(cuda.cuMemFree_v2_(p));
  int fd = -1;
  CHECK(ask(&fd, p, page, dma_buf, 0) == CUDA_ERROR_INVALID_VALUE);
  return verdict();
}
