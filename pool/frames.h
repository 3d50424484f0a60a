// One device's frames: physical memory held, in use or kept for the next request.
//
// Every byte is reserved in its budget before the driver is asked and given back after the driver
// took it (law 4). Guarded by the device's mutex, except the budgets, which are atomic.
#pragma once

#include <vector>

#include "pool/budget.h"
#include "pool/driver.h"
#include "pool/windows.h"

namespace flexlom::pool {

class Frames {
 public:
  Frames(Driver& driver, int device, Budget& device_budget, Budget& host_budget, bool host_vmm,
         CUdeviceptr window_hint = 0)
      : driver_(driver),
        device_(device),
        device_budget_(device_budget),
        host_budget_(host_budget),
        host_vmm_(host_vmm),
        windows_(driver, device, window_hint) {}
  ~Frames() {
    release_spare(Where::device, ~uint64_t{0}), release_spare(Where::host, ~uint64_t{0});
  }
  Frames(const Frames&) = delete;
  Frames& operator=(const Frames&) = delete;

  // A frame of page_granules(order): a spare one, or a new one within the budget less
  // `keep_free_bytes`. OUT_OF_MEMORY when the budget or the driver has no more; spare frames of
  // other orders are released first when that makes room.
  CUresult take(Where where, unsigned order, uint64_t keep_free_bytes, Frame* frame);
  // Keeps an unmapped frame for the next request.
  void put(Where where, unsigned order, const Frame& frame);
  // To the driver at once. For frames that others may have mapped: they are used for nothing else,
  // and the driver keeps the memory for as long as somebody has it.
  void give_back(Where where, unsigned order, Frame frame);
  // A spare frame if there is one; nothing is created.
  bool take_spare(Where where, unsigned order, Frame* frame);
  // Maps a frame at a private address for our own copies; stays so for the frame's life.
  CUresult open_window(unsigned order, Frame* frame) { return windows_.open(order, frame); }
  // Gives spare frames back to the driver until `want_bytes` went; returns how many did.
  uint64_t release_spare(Where where, uint64_t want_bytes);

  uint64_t spare_bytes(Where where) const;
  // The fewest spare bytes on the host since this was asked last: nobody had use for them.
  uint64_t take_host_surplus() {
    const uint64_t surplus = host_surplus_;
    host_surplus_ = spare_bytes(Where::host);
    return surplus;
  }
  bool can_spill() const { return host_vmm_; }
  // The driver refused a frame that the budget allowed: others hold the memory.
  uint64_t refusals() const { return refusals_; }

 private:
  using Kept = std::vector<Frame>;
  Budget& budget(Where w) { return w == Where::device ? device_budget_ : host_budget_; }
  Kept* spare(Where w) { return w == Where::device ? device_spare_ : host_spare_; }
  const Kept* spare(Where w) const { return w == Where::device ? device_spare_ : host_spare_; }
  bool reserve(Where where, uint64_t bytes, uint64_t keep_free_bytes);

  Driver& driver_;
  const int device_;
  Budget& device_budget_;
  Budget& host_budget_;
  const bool host_vmm_;
  uint64_t refusals_ = 0;
  uint64_t host_surplus_ = 0;
  Windows windows_;
  Kept device_spare_[kPageSizes];
  Kept host_spare_[kPageSizes];
};

}  // namespace flexlom::pool
