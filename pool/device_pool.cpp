// The hot half of the device pool: handing out, taking back, answering. Growth is in growth.cpp.
#include "pool/device_pool.h"

#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <new>

#include "pool/check.h"
#include "pool/residency/decisions.h"

namespace flexlom::pool {

namespace {

constexpr size_t kSmallestSpace = size_t{1} << 36;

}  // namespace

std::unique_ptr<DevicePool> DevicePool::create(Driver& driver, Fence& fence, Observer* observer,
                                               Budget& host_budget, const Config& config,
                                               CUresult* error, Residency* residency) {
  CUdeviceptr base = 0;
  size_t bytes = config.address_bytes;
  CUresult r = driver.reserve(config.base_hint, bytes, &base);
  while (r != CUDA_SUCCESS && bytes > kSmallestSpace) {
    bytes /= 2;
    r = driver.reserve(config.base_hint, bytes, &base);
  }
  *error = r;
  if (r != CUDA_SUCCESS) return nullptr;
  std::unique_ptr<DevicePool> pool(new (std::nothrow) DevicePool(
      driver, fence, observer, host_budget, config, base, bytes, residency));
  if (pool == nullptr || pool->table_ == nullptr) {
    driver.unreserve(base, bytes);
    *error = CUDA_ERROR_OUT_OF_MEMORY;
    return nullptr;
  }
  return pool;
}

DevicePool::DevicePool(Driver& driver, Fence& fence, Observer* observer, Budget& host_budget,
                       const Config& config, CUdeviceptr base, size_t bytes, Residency* residency)
    : driver_(driver),
      fence_(fence),
      residency_(residency),
      observer_(observer),
      tracer_(observer != nullptr && observer->hears_allocations() ? observer : nullptr),
      host_budget_(host_budget),
      device_budget_(config.device_budget_bytes),
      config_(config),
      base_(base),
      small_reserve_(config.guard ? 0 : policy::small_reserve_bytes(config.device_budget_bytes)),
      space_(base, bytes),
      guard_(config.guard ? std::make_unique<Guard>(space_, observer) : nullptr),
      frames_(driver, config.device, device_budget_, host_budget, config.host_vmm,
              config.window_hint) {
  access_.push_back({config.device, false});
  table_bytes_ = size_t{space_.granules()} * sizeof(std::atomic<Span*>);
  // Address space only; the kernel backs the few entries that are used.
  void* table = mmap(nullptr, table_bytes_, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  table_ = table == MAP_FAILED ? nullptr : static_cast<std::atomic<Span*>*>(table);
}

DevicePool::~DevicePool() {
  if (table_ == nullptr) return;
  std::lock_guard lock(mutex_);
  for (Span* span : spans_) unback(*span);
  if (scratch_.window != 0) frames_.put(Where::device, 0, scratch_);
  frames_.release_spare(Where::device, ~uint64_t{0});
  frames_.release_spare(Where::host, ~uint64_t{0});
  driver_.unreserve(base_, space_.bytes());
  munmap(static_cast<void*>(table_), table_bytes_);
}

CUresult DevicePool::allocate(const Request& request, unsigned shard_hint, CUdeviceptr* out) {
  const SizeKey key = key_of(request.bytes);
  const unsigned shard = shard_hint % kShards;
  if (request.bytes > config_.address_bytes) {
    report_oom(request, false);
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  Object* object = nullptr;
  {
    Shard& s = shards_[shard];
    std::lock_guard lock(s.mutex);
    object = s.pop(key, request.stream, fence_);
    if (object != nullptr) commit(s, object, request, true);
  }
  if (object == nullptr) {
    object = take_cached(request, key, shard, false);
    if (object == nullptr) object = reuse_pending(request, key, shard);
    if (object == nullptr) object = grow(request, key, shard);
    if (object == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
  }
  *out = object->address;
  return CUDA_SUCCESS;
}

// What is guarded shares its pages with nothing.
SizeKey DevicePool::key_of(size_t bytes) const {
  return guard_ != nullptr ? SizeKey{false, granules_for(bytes)} : size_key(bytes);
}

void DevicePool::commit(Shard& shard, Object* object, const Request& request, bool at_once) {
  object->state = ObjectState::live;
  object->id = ++shard.next_id * kShards + static_cast<uint64_t>(&shard - shards_);
  object->asked_bytes = request.bytes;
  object->context = request.context;
  object->mem_pool = request.mem_pool;
  object->kind = request.kind;
  object->sync_memops = true;  // the driver's default for device memory
  object->stream = 0;
  object->epoch = 0;
  ++shard.stats.allocs;
  ++shard.stats.live_objects;
  if (object->span->small) {
    shard.stats.live_asked_bytes += request.bytes;
  } else {
    large_asked_.fetch_add(request.bytes, std::memory_order_relaxed);
    note_asked();
  }
  if (request.kind == Kind::async) note_async(request.mem_pool, request.bytes, true);
  if (tracer_ != nullptr) tracer_->allocated(request, describe(*object), at_once);
}

namespace {

void raise(std::atomic<uint64_t>& peak, uint64_t now) {
  uint64_t before = peak.load(std::memory_order_relaxed);
  while (before < now && !peak.compare_exchange_weak(before, now, std::memory_order_relaxed)) {
  }
}

uint64_t whole_granules(uint64_t bytes) { return (bytes + kGranule - 1) & ~uint64_t{kGranule - 1}; }

}  // namespace

// The highest sum of bytes asked for; small objects are counted as of the last large event.
void DevicePool::note_asked() {
  const uint64_t asked = large_asked_.load(std::memory_order_relaxed);
  raise(asked_peak_, asked);
  raise(lately_asked_, asked);
}

void DevicePool::note_async(CUmemoryPool mem_pool, uint64_t bytes, bool allocated) {
  std::lock_guard lock(async_mutex_);
  AsyncUse& use = async_use_[mem_pool];
  use.used_bytes += allocated ? bytes : ~bytes + 1;
  use.reserved_bytes = whole_granules(use.used_bytes);
  use.used_high_bytes = std::max(use.used_high_bytes, use.used_bytes);
  use.reserved_high_bytes = std::max(use.reserved_high_bytes, use.reserved_bytes);
}

AsyncUse DevicePool::async_use(CUmemoryPool mem_pool) const {
  std::lock_guard lock(async_mutex_);
  const auto found = async_use_.find(mem_pool);
  return found != async_use_.end() ? found->second : AsyncUse{};
}

void DevicePool::reset_async_high(CUmemoryPool mem_pool, bool used) {
  std::lock_guard lock(async_mutex_);
  AsyncUse& use = async_use_[mem_pool];
  (used ? use.used_high_bytes : use.reserved_high_bytes) =
      used ? use.used_bytes : use.reserved_bytes;
}

void DevicePool::finish_free(Shard& shard, Object* object, StreamKey stream) {
  if (object->span->small) {
    shard.stats.live_asked_bytes -= object->asked_bytes;
  } else {
    large_asked_.fetch_sub(object->asked_bytes, std::memory_order_relaxed);
  }
  if (object->kind == Kind::async) note_async(object->mem_pool, object->asked_bytes, false);
  ++shard.stats.frees;
  --shard.stats.live_objects;
  object->epoch = fence_.stamp();
  object->stream = stream;
  if (guard_ != nullptr) [[unlikely]] {
    object->state = ObjectState::pending;
    guard_->retire(object);
    return;
  }
  shard.push_free(object);
}

void DevicePool::settle(uint64_t wait_ns) {
  if (const uint64_t epoch = guard_->newest_epoch(); epoch != 0) {
    if (wait_ns > 0) {
      const bool enough = fence_.wait(epoch, guard_->patience_ns(wait_ns));
      // A short wait that was not enough says nothing: other streams are busy.
      constexpr uint64_t kShort_ns = 10'000'000;
      if (enough || wait_ns > kShort_ns) guard_->waited(enough);
    } else {
      fence_.advance();
    }
  }
  while (Object* object = guard_->next_retired(fence_)) {
    Span* span = object->span;
    if (observer_ != nullptr) {
      AllocationInfo info;
      {
        const auto lock = lock_shard_of(*span);
        info = describe(*object);
      }
      observer_->retiring(info);
    }
    std::lock_guard device_lock(mutex_);
    {
      const auto lock = lock_shard_of(*span);
      publish(*span, nullptr);
      span->objects.reset();
    }
    drop_span(span);
  }
}

Span* DevicePool::lock_span(CUdeviceptr address, std::unique_lock<std::mutex>* lock) const {
  for (;;) {
    Span* span = span_at(address);
    if (span == nullptr) return nullptr;
    const uint32_t shard = span->shard.load(std::memory_order_acquire);
    std::unique_lock held(shards_[shard].mutex);
    // Between lookup and lock the span may have been dropped, and its record used for another,
    // perhaps at the same address but in another shard.
    if (span_at(address) != span || span->shard.load(std::memory_order_acquire) != shard) continue;
    *lock = std::move(held);
    return span;
  }
}

std::unique_lock<std::mutex> DevicePool::lock_shard_of(const Span& span) const {
  for (;;) {
    const uint32_t shard = span.shard.load(std::memory_order_acquire);
    std::unique_lock lock(shards_[shard].mutex);
    if (span.shard.load(std::memory_order_acquire) == shard) return lock;
  }
}

Object* DevicePool::live_object(Span& span, CUdeviceptr address) const {
  const size_t index = (address - span.base) / span.object_bytes;
  if (index >= span.objects_total)
    return nullptr;  // the tail of a page that its class does not fill
  Object& object = span.objects[index];
  return object.state == ObjectState::live ? &object : nullptr;
}

CUresult DevicePool::free(const char* call, CUdeviceptr address, StreamKey stream) {
  std::unique_lock<std::mutex> lock;
  Span* span = lock_span(address, &lock);
  Object* object = span != nullptr ? live_object(*span, address) : nullptr;
  if (object == nullptr || object->address != address || object->kind == Kind::mapped)
    return CUDA_ERROR_INVALID_VALUE;
  Shard& shard = shard_of(*span);
  // Told before the block can be handed out again, so that a log never shows it twice live.
  if (tracer_ != nullptr) tracer_->freed(call, describe(*object), stream);
  finish_free(shard, object, stream);
  return CUDA_SUCCESS;
}

AllocationInfo DevicePool::describe(const Object& object) const {
  AllocationInfo info;
  info.base = object.address;
  info.asked_bytes = object.asked_bytes;
  info.given_bytes = object.span->object_bytes;
  if (guard_ != nullptr) info.given_bytes -= object.address - object.span->base;
  info.id = object.id;
  info.device = config_.device;
  info.context = object.context;
  info.kind = object.kind;
  info.mem_pool = object.mem_pool;
  const size_t spilled = object.span->spilled_bytes;
  info.spilled_bytes = object.span->small && spilled > 0 ? object.span->object_bytes : spilled;
  info.sync_memops = object.sync_memops;
  info.exported = object.span->exported;
  return info;
}

bool DevicePool::find(CUdeviceptr address, AllocationInfo* out) const {
  std::unique_lock<std::mutex> lock;
  Span* span = lock_span(address, &lock);
  const Object* object = span != nullptr ? live_object(*span, address) : nullptr;
  if (object == nullptr || address - object->address >= object->asked_bytes) return false;
  *out = describe(*object);
  return true;
}

// Set before memory is registered with another device, which then reaches it by its frames
// (GPUDirect RDMA documentation, "Pin and unpin"): from then on it stays where it is.
bool DevicePool::set_sync_memops(CUdeviceptr address, bool value) {
  if (value) pin(address, true, nullptr);
  std::unique_lock<std::mutex> lock;
  Span* span = lock_span(address, &lock);
  Object* object = span != nullptr ? live_object(*span, address) : nullptr;
  if (object == nullptr) return false;
  object->sync_memops = value;
  return true;
}

CUresult DevicePool::pin_for_export(CUdeviceptr address, Export* out) {
  return pin(address, false, out);
}

// The allocation's pages stay where they are. `spilled_too`: even on the host, else refused there.
CUresult DevicePool::pin(CUdeviceptr address, bool spilled_too, Export* out) {
  // A page on its way up is backed by a frame whose bytes have not arrived: that is waited for.
  constexpr int kTries = 2000;
  for (int i = 0; i < kTries; ++i) {
    {
      std::lock_guard device_lock(mutex_);
      std::unique_lock<std::mutex> lock;
      Span* span = lock_span(address, &lock);
      if (span == nullptr || live_object(*span, address) == nullptr)
        return CUDA_ERROR_INVALID_VALUE;
      if (span->moving == 0) {
        if (span->spilled_bytes > 0 && !spilled_too) return CUDA_ERROR_NOT_SUPPORTED;
        span->exported = true;
        if (out != nullptr) *out = {span->base, span->pages};
        return CUDA_SUCCESS;
      }
    }
    const timespec pause{0, 500'000};
    nanosleep(&pause, nullptr);
  }
  return CUDA_ERROR_NOT_SUPPORTED;
}

CUdeviceptr DevicePool::scratch() {
  std::lock_guard lock(mutex_);
  if (scratch_.window != 0) return scratch_.window;
  Frame frame;
  if (frames_.take(Where::device, 0, 0, &frame) != CUDA_SUCCESS) return 0;
  if (frames_.open_window(0, &frame) != CUDA_SUCCESS) {
    frames_.put(Where::device, 0, frame);
    return 0;
  }
  scratch_ = frame;
  return scratch_.window;
}

void DevicePool::release_context(CUcontext context) {
  std::lock_guard device_lock(mutex_);
  for (Span* span : spans_) {
    const auto lock = lock_shard_of(*span);
    Shard& shard = shard_of(*span);
    for (uint32_t i = 0; i < span->objects_total; ++i) {
      Object& object = span->objects[i];
      // Stream-ordered memory belongs to the device's memory pool and outlives contexts.
      const bool bound = object.kind != Kind::async && object.context == context;
      if (object.state != ObjectState::live || !bound) continue;
      if (tracer_ != nullptr) tracer_->freed("context end", describe(object), 0);
      finish_free(shard, &object, 0);
    }
  }
}

void DevicePool::forget_stream(StreamKey stream) {
  for (Shard& shard : shards_) {
    std::lock_guard lock(shard.mutex);
    if (shard.stats.pending_objects > 0) shard.forget_stream(stream);
  }
}

uint64_t DevicePool::free_bytes() const {
  std::lock_guard lock(mutex_);
  return std::min(device_budget_.room() + cached_bytes(), device_budget_.limit());
}

PoolStats DevicePool::stats() const {
  PoolStats s;
  for (Shard& shard : shards_) {
    std::lock_guard lock(shard.mutex);
    s.allocs += shard.stats.allocs;
    s.frees += shard.stats.frees;
    s.live += shard.stats.live_objects;
    s.asked_bytes += shard.stats.live_asked_bytes;
    s.cached_bytes += shard.stats.cached_bytes;
  }
  std::lock_guard lock(mutex_);
  s.asked_bytes += large_asked_.load(std::memory_order_relaxed);
  s.asked_peak_bytes = std::max(asked_peak_.load(std::memory_order_relaxed), s.asked_bytes);
  s.cached_bytes += frames_.spare_bytes(Where::device);
  s.device_held_bytes = device_budget_.held();
  s.device_peak_bytes = device_budget_.peak();
  s.device_budget_bytes = device_budget_.limit();
  s.host_held_bytes = host_budget_.held();
  s.host_peak_bytes = host_budget_.peak();
  s.host_budget_bytes = host_budget_.limit();
  s.spilled_bytes = spilled_total_;
  s.ooms = ooms_;
  return s;
}

std::vector<AllocationInfo> DevicePool::live(size_t most) const {
  std::vector<AllocationInfo> all;
  {
    std::lock_guard device_lock(mutex_);
    for (Span* span : spans_) {
      const auto lock = lock_shard_of(*span);
      for (uint32_t i = 0; i < span->objects_total; ++i) {
        if (span->objects[i].state == ObjectState::live) all.push_back(describe(span->objects[i]));
      }
    }
  }
  const size_t n = std::min(most, all.size());
  std::partial_sort(all.begin(), all.begin() + static_cast<ptrdiff_t>(n), all.end(),
                    [](const AllocationInfo& a, const AllocationInfo& b) {
                      return a.asked_bytes != b.asked_bytes ? a.asked_bytes > b.asked_bytes
                                                            : a.id < b.id;
                    });
  all.resize(n);
  return all;
}

bool DevicePool::largest(AllocationInfo* out) const {
  size_t most = 0;
  std::lock_guard device_lock(mutex_);
  for (Span* span : spans_) {
    if (span->small.load(std::memory_order_relaxed)) continue;
    const auto lock = lock_shard_of(*span);
    const Object& object = span->objects[0];
    if (object.state != ObjectState::live || object.asked_bytes <= most) continue;
    *out = describe(object);
    most = out->asked_bytes;
  }
  return most > 0;
}

}  // namespace flexlom::pool
