#include "interpose/heat/layout.h"

#include <memory>
#include <mutex>
#include <unordered_map>

#include "interpose/doors/originals.h"

namespace flexlom::heat {

constinit thread_local bool Busy::set_ __attribute__((tls_model("initial-exec"))) = false;

namespace {

// More parameters than the driver takes bytes of them (32,764).
constexpr uint32_t kMostParams = 32768;
constexpr size_t kFirstSlots = 1024;
// More than a program has; then all are asked about again.
constexpr size_t kMostHandles = size_t{1} << 20;

// Filled in any order, emptied all at once. Read without a lock, written under `mutex`.
struct Slot {
  std::atomic<const void*> handle{nullptr};
  std::atomic<const Layout*> layout{nullptr};  // stored before the handle
};
struct Table {
  explicit Table(size_t count) : mask(count - 1), slots(new Slot[count]) {}
  const size_t mask;
  const std::unique_ptr<Slot[]> slots;
};

// One more than the last flush that is over or under way. A reader that sees it change may have
// seen a slot change owners, and asks again under the lock.
std::atomic<uint64_t> generation{0};
// Replaced when half full; the old one is kept, as a reader may be in it: they halve in size.
std::atomic<Table*> current{nullptr};

// forget_handles() was called where it could not take the lock.
std::atomic<bool> forget_later{false};

std::atomic<uint64_t> asked_count{0};
std::atomic<uint64_t> unknown_count{0};
std::atomic<uint64_t> flush_count{0};

struct Writer {
  std::mutex mutex;  // guards all of this, and writing to the table
  size_t used = 0;
  std::vector<std::unique_ptr<Table>> tables;
  std::unordered_multimap<size_t, std::unique_ptr<Layout>> layouts;
};
// Never destroyed: launches go on in exit handlers.
Writer& writer() noexcept {
  static union Holder {
    Holder() : value() {}
    ~Holder() {}
    Writer value;
  } holder;
  return holder.value;
}

size_t slot_of(const void* handle) noexcept {
  return (reinterpret_cast<uintptr_t>(handle) >> 3) * 0x9E3779B97F4A7C15u >> 20;
}

const Layout* find(const Table& table, const void* handle) noexcept {
  for (size_t i = slot_of(handle);; ++i) {
    const Slot& slot = table.slots[i & table.mask];
    const void* seen = slot.handle.load(std::memory_order_acquire);
    if (seen == nullptr) return nullptr;
    if (seen != handle) continue;
    const Layout* layout = slot.layout.load(std::memory_order_acquire);
    // Still the owner: a slot changes hands only by being emptied first.
    return slot.handle.load(std::memory_order_relaxed) == handle ? layout : nullptr;
  }
}

void put(Table& table, const void* handle, const Layout* layout) noexcept {
  size_t i = slot_of(handle);
  while (table.slots[i & table.mask].handle.load(std::memory_order_relaxed) != nullptr) ++i;
  Slot& slot = table.slots[i & table.mask];
  slot.layout.store(layout, std::memory_order_release);
  slot.handle.store(handle, std::memory_order_release);
}

size_t hash_of(const Layout& layout) noexcept {
  size_t h = layout.params * 31 + layout.packed_bytes + (layout.known ? 7 : 0);
  for (const Run& run : layout.runs) h = (h ^ (run.packed + run.words)) * 0x9E3779B97F4A7C15u;
  return h;
}

void add_runs(Layout& layout, uint32_t param, uint32_t offset, uint32_t bytes) {
  const auto add = [&](uint32_t first) {
    if (bytes >= first + 8)
      layout.runs.push_back({param, first, offset + first, (bytes - first) / 8});
  };
  // Aligned words of the parameter buffer, and, when the parameter itself is not aligned there, the
  // words from its start: a structure of bytes can hold a pointer anywhere.
  add(0);
  if (offset % 8 != 0) add(8 - offset % 8);
}

// Asks with one of the two calls. SUCCESS: `layout` is filled; INVALID_VALUE: no such parameter.
template <class Call, class Handle>
CUresult describe(Call call, Handle handle, Layout& layout) {
  if (call == nullptr) return CUDA_ERROR_NOT_SUPPORTED;
  for (uint32_t i = 0; i < kMostParams; ++i) {
    size_t offset = 0;
    size_t bytes = 0;
    const CUresult r = call(handle, i, &offset, &bytes);
    if (r == CUDA_ERROR_INVALID_VALUE && i > 0) break;
    if (r != CUDA_SUCCESS) return r;
    layout.params = i + 1;
    layout.packed_bytes = static_cast<uint32_t>(offset + bytes);
    add_runs(layout, i, static_cast<uint32_t>(offset), static_cast<uint32_t>(bytes));
  }
  layout.known = true;
  return CUDA_SUCCESS;
}

// Whether the same question about the same handle may get another answer later.
bool passing(CUresult r) noexcept {
  return r == CUDA_ERROR_INVALID_CONTEXT || r == CUDA_ERROR_CONTEXT_IS_DESTROYED ||
         r == CUDA_ERROR_NOT_INITIALIZED || r == CUDA_ERROR_DEINITIALIZED ||
         r == CUDA_ERROR_OUT_OF_MEMORY;
}

// `keep`: whether the answer is about this function, not about the state the driver is in, nor
// about a handle that is none and may become one without an unload in between.
Layout ask_driver(const void* handle, bool* keep) {
  void* const given = const_cast<void*>(handle);
  Layout layout;
  *keep = true;
  const CUresult function =
      describe(FLEXLOM_ORIGINAL(cuFuncGetParamInfo), static_cast<CUfunction>(given), layout);
  if (function == CUDA_SUCCESS) return layout;
  layout = {};
  const CUresult kernel =
      describe(FLEXLOM_ORIGINAL(cuKernelGetParamInfo), static_cast<CUkernel>(given), layout);
  if (kernel == CUDA_SUCCESS) return layout;
  layout = {};
  // Neither has a first parameter, and one of the two knows the handle: a function without any.
  layout.known = function == CUDA_ERROR_INVALID_VALUE || kernel == CUDA_ERROR_INVALID_VALUE;
  const bool no_handle =
      function == CUDA_ERROR_INVALID_HANDLE && kernel == CUDA_ERROR_INVALID_HANDLE;
  *keep = layout.known || !(passing(function) || passing(kernel) || no_handle);
  return layout;
}

// Both under the writer's mutex.
const Layout* intern(Writer& w, std::unique_ptr<Layout> made) {
  const size_t h = hash_of(*made);
  const auto [begin, end] = w.layouts.equal_range(h);
  for (auto it = begin; it != end; ++it) {
    if (*it->second == *made) return it->second.get();
  }
  return w.layouts.emplace(h, std::move(made))->second.get();
}

void clear(Writer& w) noexcept {
  generation.fetch_add(1, std::memory_order_acq_rel);
  Table* table = current.load(std::memory_order_relaxed);
  for (size_t i = 0; w.used > 0 && i <= table->mask; ++i) {
    table->slots[i].handle.store(nullptr, std::memory_order_release);
    table->slots[i].layout.store(nullptr, std::memory_order_release);
  }
  w.used = 0;
}

void remember(Writer& w, const void* handle, const Layout* layout) {
  Table* table = current.load(std::memory_order_relaxed);
  if (table != nullptr && find(*table, handle) != nullptr) return;
  if (w.used >= kMostHandles) clear(w);
  if (table == nullptr || w.used >= table->mask / 2) {
    auto larger = std::make_unique<Table>(table == nullptr ? kFirstSlots : 2 * (table->mask + 1));
    for (size_t i = 0; table != nullptr && i <= table->mask; ++i) {
      const Slot& slot = table->slots[i];
      const void* h = slot.handle.load(std::memory_order_relaxed);
      if (h != nullptr) put(*larger, h, slot.layout.load(std::memory_order_relaxed));
    }
    w.tables.push_back(std::move(larger));
    table = w.tables.back().get();
    current.store(table, std::memory_order_release);
  }
  put(*table, handle, layout);
  ++w.used;
}

const Layout* learn(const void* handle) noexcept {
  if (Busy::already()) return nullptr;
  Busy busy;
  try {
    const uint64_t before = generation.load(std::memory_order_acquire);
    bool keep = false;
    auto made = std::make_unique<Layout>(ask_driver(handle, &keep));
    asked_count.fetch_add(1, std::memory_order_relaxed);
    if (!made->known) unknown_count.fetch_add(1, std::memory_order_relaxed);
    Writer& w = writer();
    std::lock_guard lock(w.mutex);
    const Layout* layout = intern(w, std::move(made));
    if (keep && generation.load(std::memory_order_relaxed) == before) remember(w, handle, layout);
    return layout;
  } catch (...) {  // no memory
    return nullptr;
  }
}

}  // namespace

const Layout* layout_of(const void* handle) noexcept {
  const Table* table = current.load(std::memory_order_acquire);
  if (table != nullptr && handle != nullptr) [[likely]] {
    const uint64_t before = generation.load(std::memory_order_acquire);
    const Layout* layout = find(*table, handle);
    // Orders the reads above before the one below.
    std::atomic_thread_fence(std::memory_order_acquire);
    if (layout != nullptr && generation.load(std::memory_order_relaxed) == before) [[likely]]
      return layout;
  }
  return learn(handle);
}

void forget_handles() noexcept {
  // From inside our own allocation: the lock may be this thread's. Done when that is over; what is
  // being learned is not kept.
  if (Busy::already()) {
    generation.fetch_add(1, std::memory_order_acq_rel);
    forget_later.store(true, std::memory_order_relaxed);
    return;
  }
  Writer& w = writer();
  std::lock_guard lock(w.mutex);
  // Also with nothing to forget: somebody may be asking about a handle at this moment.
  if (w.used > 0) flush_count.fetch_add(1, std::memory_order_relaxed);
  clear(w);
}

void Busy::forget_if_asked() noexcept {
  if (forget_later.load(std::memory_order_relaxed) && forget_later.exchange(false))
    forget_handles();
}

uint64_t handle_generation() noexcept { return generation.load(std::memory_order_acquire); }

LayoutCounts layout_counts() noexcept {
  return {asked_count.load(std::memory_order_relaxed),
          unknown_count.load(std::memory_order_relaxed),
          flush_count.load(std::memory_order_relaxed)};
}

}  // namespace flexlom::heat
