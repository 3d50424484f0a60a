#include "interpose/heat/data.h"

#include "interpose/hooks/common.h"

namespace flexlom::heat {

bool is_host_memory(const void* p) noexcept {
  const auto address = reinterpret_cast<CUdeviceptr>(p);
  if (hull().holds(address)) return false;
  unsigned type = 0;
  const CUresult r =
      FORWARD(cuPointerGetAttribute, &type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, address);
  // Memory that the driver does not know is the host's own.
  return r == CUDA_ERROR_INVALID_VALUE || (r == CUDA_SUCCESS && type == CU_MEMORYTYPE_HOST);
}

}  // namespace flexlom::heat
