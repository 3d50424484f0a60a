// The physical half of virtual memory management.
#pragma once
#include <map>
#include <memory>

#include "tests/simcuda/memory.hpp"

namespace flexlom::sim {

// Guarded by memory_lock. Lives while it has references (cuMemCreate, cuMemRetainAllocationHandle,
// an import) or is mapped.
struct Handle {
  CUmemGenericAllocationHandle value = 0;
  CUmemAllocationProp properties{};
  std::shared_ptr<Frame> frame;
  uint64_t id = 0;
  unsigned references = 0;
  unsigned mappings = 0;
  bool on_device() const { return properties.location.type == CU_MEM_LOCATION_TYPE_DEVICE; }
};

struct Reservation {
  CUdeviceptr address = 0;
  size_t bytes = 0;
};

std::map<CUdeviceptr, Mapping>& mappings();  // memory_lock held
// Throws INVALID_VALUE. memory_lock held.
std::shared_ptr<Handle> handle_of_value(CUmemGenericAllocationHandle value);
CUmemGenericAllocationHandle publish(std::shared_ptr<Handle> handle);
Reservation* reservation_at(CUdeviceptr address);

}  // namespace flexlom::sim
