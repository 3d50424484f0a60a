// The exporting side of legacy IPC: pins allocations and answers importers from a thread of its
// own.
#pragma once

#include <pthread.h>

#include <atomic>
#include <mutex>

#include "interpose/ipc/protocol.h"
#include "pool/pool.h"

namespace flexlom::ipc {

class Exporter {
 public:
  explicit Exporter(pool::Pool& pool) : pool_(pool) {}

  // Fills `handle` for the allocation that contains `p` and pins its pages to the device.
  // INVALID_VALUE for memory that legacy IPC does not cover (stream-ordered, freed); MAP_FAILED
  // when part of it lies in host frames, which cannot be shared. Starts the thread at the first
  // success. Thread safe.
  CUresult get_handle(CUdeviceptr p, CUipcMemHandle* handle) noexcept;
  // Ends the thread; handles given out cannot be opened any more.
  void stop() noexcept;
  bool is_ours(const Handle& handle) const noexcept;

 private:
  bool start();  // mutex_ held
  static void* run(void* self);
  void serve();
  void answer(int peer);

  pool::Pool& pool_;
  std::mutex mutex_;  // guards the three below
  bool running_ = false;
  int listener_ = -1;
  pthread_t thread_{};
  std::atomic<uint64_t> nonce_{0};
};

}  // namespace flexlom::ipc
