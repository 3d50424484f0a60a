// Which of the program's memory pools (CUDA Driver API 6.15) are served from our pages: each
// device's default pool, and pools made with plain properties. Pools that can be exported, lie
// elsewhere or have a maximum size stay the driver's, with everything allocated from them.
//
// Thread safe. None throws.
#pragma once

#include <cuda.h>

#include <mutex>
#include <unordered_map>

namespace flexlom {

class MemoryPools {
 public:
  void created(CUmemoryPool pool, const CUmemPoolProps& props) noexcept;
  void destroyed(CUmemoryPool pool) noexcept;
  // The device of a pool that we serve; -1 for one that we do not.
  int device_of(CUmemoryPool pool) noexcept;
  // What an allocation without a pool comes from: the device's current pool.
  CUmemoryPool current(int device) noexcept;

 private:
  static constexpr int kDevices = 64;
  std::mutex mutex_;  // guards both
  std::unordered_map<CUmemoryPool, int> served_;
  bool default_known_[kDevices] = {};
};

}  // namespace flexlom
