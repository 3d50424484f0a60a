// A driver in memory, for the pool's tests: it keeps the books of frames, mappings and events, and
// notes every breach of a rule that a real driver or the design lays down.
//
// Work is a number per context: submit() raises it, finish() lets all of it end. An event is done when
// what was submitted before its record is.
//
// Frames have contents, one word (a cell) for every 64 KiB, so that a copy that is missing, too early
// or from the wrong place shows. Copies are queued on their stream and made one at a time when
// somebody asks for an event, so that a swap under a copy shows too.
#pragma once

#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "pool/driver.h"
#include "pool/residency/gate.h"

namespace flexlom::unit {

using pool::kGranule;
using pool::Where;

class FakeDriver : public pool::Driver {
 public:
  // Settings; change them between calls only.
  uint64_t device_limit_bytes = ~uint64_t{0};  // what the pool promised: going over it is a problem
  uint64_t capacity_bytes = ~uint64_t{0};      // what the device has: going over it is OUT_OF_MEMORY
  uint64_t host_limit_bytes = ~uint64_t{0};
  bool vmm = true, host_vmm = true, context_events = true;
  bool capturing = false;  // any event call now would break the capture
  // When set, copies and remapping of what use() named are problems while it is open.
  pool::Gate* gate = nullptr;
  bool copies_end = true;  // false: copies take until somebody synchronises
  bool marks = true;       // false: no fingerprints
  bool aliases = false;    // a frame may lie at several of the program's addresses

  // Makes the nth next call of that name fail, once (1: the next).
  void fail(const std::string& call, int nth = 1, CUresult with = CUDA_ERROR_OUT_OF_MEMORY) {
    std::lock_guard lock(mutex_);
    faults_[call] = {nth, with};
  }
  int faults_hit() const { return faults_hit_; }
  int calls(const std::string& call) const {
    std::lock_guard lock(mutex_);
    const auto it = calls_.find(call);
    return it == calls_.end() ? 0 : it->second;
  }
  int all_calls() const {
    std::lock_guard lock(mutex_);
    int sum = 0;
    for (const auto& [name, n] : calls_) sum += n;
    return sum;
  }
  // Empty when every rule was kept.
  std::string problems() const {
    std::lock_guard lock(mutex_);
    return problems_;
  }
  uint64_t held_bytes(Where where) const {
    std::lock_guard lock(mutex_);
    return where == Where::device ? device_bytes_ : host_bytes_;
  }
  uint64_t peak_device_bytes() const { return peak_device_bytes_; }
  size_t live_streams() const {
    std::lock_guard lock(mutex_);
    return streams_.size();
  }

  // What the program may touch at any time, from now on until unuse().
  void use(CUdeviceptr address, size_t bytes) {
    std::lock_guard lock(mutex_);
    used_[address] = bytes;
  }
  void unuse(CUdeviceptr address) {
    std::lock_guard lock(mutex_);
    used_.erase(address);
  }
  // Tracked mode: pages move beside running work, and the gate is of no account, but what running
  // work uses, as told here, must be left alone.
  bool beside = false;
  void run_on(CUdeviceptr address, size_t bytes) {
    std::lock_guard lock(mutex_);
    running_[address] = bytes;
  }
  void run_over(CUdeviceptr address) {
    std::lock_guard lock(mutex_);
    running_.erase(address);
  }
  static constexpr size_t kCell = size_t{64} << 10;
  void write(CUdeviceptr address, uint64_t value);
  uint64_t read(CUdeviceptr address);
  size_t live_frames() const {
    std::lock_guard lock(mutex_);
    return frames_.size();
  }
  size_t live_mappings() const {
    std::lock_guard lock(mutex_);
    return mappings_.size();
  }
  bool is_live(CUevent event) const {
    std::lock_guard lock(mutex_);
    return events_.count(event) > 0;
  }
  size_t live_events() const {
    std::lock_guard lock(mutex_);
    return events_.size();
  }
  // Contexts are of device 0 but for these.
  void put_on(CUcontext context, int device) {
    std::lock_guard lock(mutex_);
    devices_[context] = device;
  }
  // Where what is mapped there lies; the address must be mapped.
  Where backing(CUdeviceptr address) const {
    std::lock_guard lock(mutex_);
    return frames_.at(std::prev(mappings_.upper_bound(address))->second.frame).where;
  }
  // Whether every byte is mapped and may be reached from the device.
  bool accessible(CUdeviceptr address, size_t bytes, int device = 0) const {
    std::lock_guard lock(mutex_);
    const CUdeviceptr end = address + bytes;
    while (address < end) {
      auto it = mappings_.upper_bound(address);
      if (it == mappings_.begin()) return false;
      --it;
      if (address >= it->first + it->second.bytes || (it->second.devices >> device & 1) == 0) return false;
      address = it->first + it->second.bytes;
    }
    return true;
  }

  // The GPU.
  uint64_t submit(CUcontext context) {
    std::lock_guard lock(mutex_);
    return ++work_[context].submitted;
  }
  void finish(CUcontext context) {
    std::lock_guard lock(mutex_);
    work_[context].finished = work_[context].submitted;
  }
  void finish_to(CUcontext context, uint64_t work) {
    std::lock_guard lock(mutex_);
    work_[context].finished = std::max(work_[context].finished, work);
  }
  uint64_t submitted(CUcontext context) const {
    std::lock_guard lock(mutex_);
    const auto it = work_.find(context);
    return it == work_.end() ? 0 : it->second.submitted;
  }

  CUresult facts(int device, pool::DeviceFacts* out) noexcept override;
  CUresult reserve(CUdeviceptr hint, size_t bytes, CUdeviceptr* base) noexcept override;
  CUresult unreserve(CUdeviceptr base, size_t bytes) noexcept override;
  CUresult create(int device, Where where, size_t bytes, CUmemGenericAllocationHandle* frame) noexcept override;
  CUresult release(CUmemGenericAllocationHandle frame) noexcept override;
  CUresult map(CUdeviceptr address, size_t bytes, CUmemGenericAllocationHandle frame) noexcept override;
  CUresult unmap(CUdeviceptr address, size_t bytes) noexcept override;
  CUresult set_access(CUdeviceptr address, size_t bytes, int device) noexcept override;
  bool has_context_events() noexcept override { return context_events; }
  int device_of(CUcontext context) noexcept override {
    std::lock_guard lock(mutex_);
    return device_of_locked(context);
  }
  CUresult event_create(CUcontext context, CUevent* event) noexcept override;
  void event_destroy(CUcontext context, CUevent event) noexcept override;
  CUresult record(CUcontext context, CUevent event) noexcept override;
  CUresult query(CUevent event) noexcept override;
  CUresult synchronize(CUcontext context) noexcept override;
  CUresult stream_create(CUcontext context, CUstream* stream) noexcept override;
  void stream_destroy(CUcontext context, CUstream stream) noexcept override;
  CUresult copy(CUcontext context, CUstream stream, CUdeviceptr to, CUdeviceptr from,
                size_t bytes) noexcept override;
  CUresult record_on(CUcontext context, CUstream stream, CUevent event) noexcept override;
  CUresult wait_on(CUcontext context, CUstream stream, CUevent event) noexcept override;
  pool::Fingerprint* mark_buffer(CUcontext context, size_t* count) noexcept override;
  CUresult fingerprint(CUcontext context, CUstream stream, const pool::PageRange* pages, size_t count,
                       CUdeviceptr, pool::Fingerprint* marks) noexcept override;

 private:
  struct Fault {
    int nth;
    CUresult with;
  };
  struct Frame {
    Where where;
    size_t bytes;
    bool released = false;
    std::vector<CUdeviceptr> mapped = {};
    std::vector<uint64_t> cells = {};  // made at the first write
  };
  struct Mapping {
    size_t bytes;
    CUmemGenericAllocationHandle frame;
    uint64_t devices;  // bit i: device i may reach it
  };
  struct Work {
    uint64_t submitted = 0, finished = 0;
  };
  struct Event {
    CUcontext context;
    uint64_t covers;  // work of the context, or operations of the stream; ~0: never recorded
    CUstream stream = nullptr;
  };
  struct Operation {
    CUdeviceptr to, from;
    size_t bytes;
    pool::Fingerprint* mark;  // null: a copy
    CUdeviceptr scratch = 0;
    CUstream until = nullptr;  // not null: a wait for that many operations of the other stream
    uint64_t covers = 0;
  };
  struct Stream {
    CUcontext context;
    std::deque<Operation> queue;
    uint64_t queued = 0, done = 0;
  };

  // mutex_ held by all of these.
  CUresult enter(const char* call);
  void problem(const std::string& text) { problems_ += text + "\n"; }
  void drop_if_unused(CUmemGenericAllocationHandle frame);
  bool event_call(const char* call);
  CUdeviceptr reservation_of(CUdeviceptr address) const;
  uint64_t* cell(CUdeviceptr address);
  bool busy() const;
  void check_undisturbed(CUdeviceptr address, size_t bytes);
  void queue(Stream& stream, const Operation& operation);
  void run_next(Stream& stream);

  mutable std::mutex mutex_;  // guards all below
  std::map<std::string, Fault> faults_;
  std::map<std::string, int> calls_;
  std::string problems_;
  int faults_hit_ = 0;
  std::map<CUdeviceptr, size_t> reserved_;
  std::map<CUmemGenericAllocationHandle, Frame> frames_;
  std::map<CUdeviceptr, Mapping> mappings_;
  std::map<CUcontext, Work> work_;
  std::map<CUevent, Event> events_;
  int device_of_locked(CUcontext context) const {
    const auto found = devices_.find(context);
    return found == devices_.end() ? 0 : found->second;
  }

  std::map<CUcontext, int> devices_;
  std::map<CUstream, Stream> streams_;
  std::map<CUdeviceptr, size_t> used_;
  std::map<CUdeviceptr, size_t> running_;
  std::map<CUcontext, std::vector<pool::Fingerprint>> mark_buffers_;
  uint64_t device_bytes_ = 0, host_bytes_ = 0, peak_device_bytes_ = 0;
  uint64_t next_handle_ = 1;
};

inline CUcontext fake_context(uint64_t n) { return reinterpret_cast<CUcontext>(n * 0x1000); }

}  // namespace flexlom::unit
