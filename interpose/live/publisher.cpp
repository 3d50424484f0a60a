#include "interpose/live/publisher.h"

#include <stdio.h>

#include <algorithm>

#include "interpose/doors/originals.h"

namespace flexlom::live {
namespace {

const char* call_of(pool::Kind kind) noexcept {
  switch (kind) {
    case pool::Kind::malloc_:
      return "cuMemAlloc";
    case pool::Kind::pitch:
      return "cuMemAllocPitch";
    case pool::Kind::async:
      return "cuMemAllocAsync";
    case pool::Kind::mapped:
      return "cuMemMap";
  }
  return "";
}

}  // namespace

// Once for each device: what tells it apart in another process, where it may have another number
// (CUDA_VISIBLE_DEVICES).
void Publisher::name_device(Device* device) noexcept {
  const int ordinal = static_cast<int>(device->ordinal);
  CUuuid uuid{};
  if (const auto get = FLEXLOM_ORIGINAL(cuDeviceGetUuid_v2);
      get != nullptr && get(&uuid, ordinal) == CUDA_SUCCESS)
    std::memcpy(device->uuid, uuid.bytes, sizeof device->uuid);
  if (const auto get = FLEXLOM_ORIGINAL(cuDeviceGetName);
      get == nullptr ||
      get(device->name, static_cast<int>(sizeof device->name), ordinal) != CUDA_SUCCESS)
    device->name[0] = '\0';
}

void Publisher::find_largest(pool::Pool& pool, uint64_t changes) noexcept {
  const uint64_t begin_ns = sample_.now.at_ns;
  if (changes == seen_changes_ || begin_ns < look_at_ns_) return;
  seen_changes_ = changes;
  pool::AllocationInfo largest;
  pool.each_device([&](const pool::DevicePool& device) {
    pool::AllocationInfo found;
    if (device.largest(&found) && found.asked_bytes > largest.asked_bytes) largest = found;
  });
  const uint64_t end_ns = pool::ThreadSync::now_ns();
  look_at_ns_ = end_ns + std::max(kLookPause_ns, kLookShare * (end_ns - begin_ns));
  Largest& out = sample_.largest;
  out = {};
  out.device = static_cast<uint64_t>(largest.device);
  out.address = largest.base;
  out.bytes = largest.asked_bytes;
  out.host_bytes = largest.spilled_bytes;
  if (out.bytes > 0) snprintf(out.call, sizeof out.call, "%s", call_of(largest.kind));
}

void Publisher::publish(pool::Pool& pool) noexcept {
  sample_.active_since_ns = active_since_ns_;
  size_t devices = 0;
  uint64_t changes = 0;
  pool.each_device([&](const pool::DevicePool& from) {
    const size_t i = devices++;
    if (i >= kDevices) return;
    Device& to = sample_.devices[i];
    const auto ordinal = static_cast<uint64_t>(from.device());
    // A device with a lower number may open later, and shift those behind it.
    if (!named_[i] || to.ordinal != ordinal) {
      to = {};
      to.ordinal = ordinal;
      name_device(&to);
      named_[i] = true;
    }
    const pool::PoolStats s = from.stats();
    to.budget_bytes = s.device_budget_bytes;
    to.held_bytes = s.device_held_bytes;
    to.peak_bytes = s.device_peak_bytes;
    to.asked_bytes = s.asked_bytes;
    to.live = s.live;
    to.allocs = s.allocs;
    to.frees = s.frees;
    to.failures = s.ooms;
    changes += s.allocs + s.frees;
  });
  sample_.device_count = devices;
  const pool::Budget& host = pool.host_budget();
  sample_.host_budget_bytes = host.limit();
  sample_.host_held_bytes = host.held();
  sample_.host_peak_bytes = host.peak();

  Totals& now = sample_.now;
  now = {};
  if (const pool::Residency* residency = pool.residency()) {
    const pool::ResidencyStats s = residency->stats();
    now.promoted_bytes = s.moves.promoted_bytes;
    now.demoted_bytes = s.moves.demoted_bytes;
    now.demoted_copied_bytes = s.moves.demoted_copied_bytes;
    now.in_place_bytes = s.in_place_bytes;
    changes += s.moves.promoted_pages + s.moves.demoted_pages;
  }
  now.at_ns = pool::ThreadSync::now_ns();
  find_largest(pool, changes);
  // The oldest that is kept; the ring is not full at first.
  sample_.before = count_ == 0 ? Totals{} : kept_[count_ < kKept ? 0 : count_ % kKept];
  kept_[count_ % kKept] = now;
  ++count_;
  file_.publish(sample_);
}

}  // namespace flexlom::live
