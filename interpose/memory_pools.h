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
  // The driver took these: who may reach what is allocated from the pool.
  void access_set(CUmemoryPool pool, const CUmemAccessDesc* access, size_t count) noexcept;
  // Who may reach a pool of this device, a bit for each device.
  uint64_t peers_of(int device) noexcept;
  // What an allocation without a pool comes from: the device's current pool.
  CUmemoryPool current(int device) noexcept;

 private:
  struct Served {
    int device;
    uint64_t peers;
  };
  // With the mutex held; out of host memory the last two throw.
  Served* find(CUmemoryPool pool) noexcept;
  void find_default(int device);
  void find_defaults();

  static constexpr int kDevices = 64;
  std::mutex mutex_;  // guards all below
  std::unordered_map<CUmemoryPool, Served> served_;
  bool default_known_[kDevices] = {};
  bool defaults_known_ = false;
};

}  // namespace flexlom
