#include "tests/unit/fake_driver.h"

#include <algorithm>

namespace flexlom::unit {

CUresult FakeDriver::enter(const char* call) {
  ++calls_[call];
  const auto it = faults_.find(call);
  if (it == faults_.end() || --it->second.nth > 0) return CUDA_SUCCESS;
  const CUresult with = it->second.with;
  faults_.erase(it);
  ++faults_hit_;
  return with;
}

CUresult FakeDriver::facts(int, pool::DeviceFacts* out) noexcept {
  std::lock_guard lock(mutex_);
  if (const CUresult r = enter("facts")) return r;
  out->vmm = vmm;
  out->host_vmm = host_vmm;
  out->total_bytes = capacity_bytes;
  out->free_bytes = capacity_bytes;
  return CUDA_SUCCESS;
}

CUresult FakeDriver::reserve(CUdeviceptr hint, size_t bytes, CUdeviceptr* base) noexcept {
  std::lock_guard lock(mutex_);
  if (const CUresult r = enter("reserve")) return r;
  *base = hint != 0 ? hint : 0x3'0000'0000;
  while (reserved_.count(*base) > 0) *base += uint64_t{1} << 42;
  reserved_[*base] = bytes;
  return CUDA_SUCCESS;
}

CUresult FakeDriver::unreserve(CUdeviceptr base, size_t bytes) noexcept {
  std::lock_guard lock(mutex_);
  if (const CUresult r = enter("unreserve")) return r;
  const auto it = reserved_.find(base);
  if (it == reserved_.end() || it->second != bytes) {
    problem("unreserve of what was not reserved");
    return CUDA_ERROR_INVALID_VALUE;
  }
  for (const auto& [address, mapping] : mappings_) {
    // After a failed unmap nobody can do better.
    if (faults_hit_ == 0 && address >= base && address < base + bytes) problem("unreserve with pages mapped");
  }
  reserved_.erase(it);
  return CUDA_SUCCESS;
}

CUresult FakeDriver::create(int, Where where, size_t bytes, CUmemGenericAllocationHandle* frame) noexcept {
  std::lock_guard lock(mutex_);
  if (const CUresult r = enter("create")) return r;
  if (bytes == 0 || bytes % kGranule != 0) {
    problem("create of a size that is no multiple of the granularity");
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (where == Where::host && !host_vmm) return CUDA_ERROR_NOT_SUPPORTED;
  uint64_t& held = where == Where::device ? device_bytes_ : host_bytes_;
  const uint64_t limit = where == Where::device ? device_limit_bytes : host_limit_bytes;
  if (where == Where::device && held + bytes > capacity_bytes) return CUDA_ERROR_OUT_OF_MEMORY;
  held += bytes;
  if (held > limit) problem(where == Where::device ? "over the device budget" : "over the host budget");
  peak_device_bytes_ = std::max(peak_device_bytes_, device_bytes_);
  *frame = next_handle_++;
  frames_[*frame] = {where, bytes};
  return CUDA_SUCCESS;
}

void FakeDriver::drop_if_unused(CUmemGenericAllocationHandle frame) {
  const auto it = frames_.find(frame);
  if (!it->second.released || !it->second.mapped.empty()) return;
  (it->second.where == Where::device ? device_bytes_ : host_bytes_) -= it->second.bytes;
  frames_.erase(it);
}

CUresult FakeDriver::release(CUmemGenericAllocationHandle frame) noexcept {
  std::lock_guard lock(mutex_);
  if (const CUresult r = enter("release")) return r;
  const auto it = frames_.find(frame);
  if (it == frames_.end() || it->second.released) {
    problem("release of what is not held");
    return CUDA_ERROR_INVALID_VALUE;
  }
  it->second.released = true;
  drop_if_unused(frame);
  return CUDA_SUCCESS;
}

CUresult FakeDriver::map(CUdeviceptr address, size_t bytes, CUmemGenericAllocationHandle frame) noexcept {
  std::lock_guard lock(mutex_);
  if (const CUresult r = enter("map")) return r;
  const auto it = frames_.find(frame);
  if (it == frames_.end() || it->second.released || it->second.bytes != bytes || address % kGranule != 0) {
    problem("map of a wrong frame, size or address");
    return CUDA_ERROR_INVALID_VALUE;
  }
  // One mapping in the pool, and for host frames one more as a window.
  for (const CUdeviceptr other : it->second.mapped) {
    if (aliases) break;
    if (it->second.where == Where::device || reservation_of(other) == reservation_of(address))
      problem("a frame mapped twice: two allocations share memory");
  }
  const bool inside = std::any_of(reserved_.begin(), reserved_.end(), [&](const auto& r) {
    return address >= r.first && address + bytes <= r.first + r.second;
  });
  if (!inside) {
    problem("map outside of the reserved range");
    return CUDA_ERROR_INVALID_VALUE;
  }
  auto next = mappings_.lower_bound(address);
  const bool hits_next = next != mappings_.end() && next->first < address + bytes;
  const bool hits_before =
      next != mappings_.begin() && std::prev(next)->first + std::prev(next)->second.bytes > address;
  if (hits_next || hits_before) {
    problem("map over a mapped page");
    return CUDA_ERROR_ALREADY_MAPPED;
  }
  mappings_[address] = {bytes, frame, 0};
  it->second.mapped.push_back(address);
  return CUDA_SUCCESS;
}

CUresult FakeDriver::unmap(CUdeviceptr address, size_t bytes) noexcept {
  std::lock_guard lock(mutex_);
  if (const CUresult r = enter("unmap")) return r;
  const auto it = mappings_.find(address);
  if (it == mappings_.end() || it->second.bytes != bytes) {
    problem("unmap of what is not mapped so");
    return CUDA_ERROR_INVALID_VALUE;
  }
  check_undisturbed(address, bytes);
  const CUmemGenericAllocationHandle frame = it->second.frame;
  mappings_.erase(it);
  std::erase(frames_[frame].mapped, address);
  drop_if_unused(frame);
  return CUDA_SUCCESS;
}

CUresult FakeDriver::set_access(CUdeviceptr address, size_t bytes, int device) noexcept {
  std::lock_guard lock(mutex_);
  if (const CUresult r = enter("set_access")) return r;
  const auto it = mappings_.find(address);
  if (it == mappings_.end() || it->second.bytes != bytes) {
    problem("set_access on what is not mapped so");
    return CUDA_ERROR_INVALID_VALUE;
  }
  it->second.devices |= uint64_t{1} << device;
  return CUDA_SUCCESS;
}

// Whether the call may be made: context-wide event calls break an open capture.
bool FakeDriver::event_call(const char* call) {
  if (capturing) problem(std::string(call) + " while a capture is open");
  return !capturing;
}

CUresult FakeDriver::event_create(CUcontext context, CUevent* event) noexcept {
  std::lock_guard lock(mutex_);
  if (const CUresult r = enter("event_create")) return r;
  *event = reinterpret_cast<CUevent>(next_handle_++ * 16);
  events_[*event] = {context, ~uint64_t{0}};
  return CUDA_SUCCESS;
}

void FakeDriver::event_destroy(CUcontext context, CUevent event) noexcept {
  std::lock_guard lock(mutex_);
  enter("event_destroy");
  const auto it = events_.find(event);
  if (it == events_.end() || it->second.context != context) problem("destruction of an unknown event");
  else events_.erase(it);
}

CUresult FakeDriver::record(CUcontext context, CUevent event) noexcept {
  std::lock_guard lock(mutex_);
  if (!event_call("record")) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  if (const CUresult r = enter("record")) return r;
  const auto it = events_.find(event);
  if (it == events_.end() || it->second.context != context) {
    problem("record of an unknown event");
    return CUDA_ERROR_INVALID_HANDLE;
  }
  it->second.covers = work_[context].submitted;
  it->second.stream = nullptr;
  return CUDA_SUCCESS;
}

CUresult FakeDriver::query(CUevent event) noexcept {
  std::lock_guard lock(mutex_);
  if (!event_call("query")) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  if (const CUresult r = enter("query")) return r;
  const auto it = events_.find(event);
  if (it == events_.end()) {
    problem("query of an unknown event");
    return CUDA_ERROR_INVALID_HANDLE;
  }
  if (it->second.stream != nullptr) {
    const auto stream = streams_.find(it->second.stream);
    if (stream == streams_.end()) return CUDA_SUCCESS;
    if (copies_end) run_next(stream->second);
    return stream->second.done >= it->second.covers ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
  }
  // One that was never recorded is done, as the driver has it: trusting it is the mistake to find.
  if (it->second.covers == ~uint64_t{0}) return CUDA_SUCCESS;
  return work_[it->second.context].finished >= it->second.covers ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

CUresult FakeDriver::synchronize(CUcontext context) noexcept {
  std::lock_guard lock(mutex_);
  if (!event_call("synchronize")) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  if (const CUresult r = enter("synchronize")) return r;
  work_[context].finished = work_[context].submitted;
  for (auto& [handle, stream] : streams_) {
    while (stream.context == context && !stream.queue.empty()) run_next(stream);
  }
  return CUDA_SUCCESS;
}

CUdeviceptr FakeDriver::reservation_of(CUdeviceptr address) const {
  const auto it = reserved_.upper_bound(address);
  return it == reserved_.begin() ? 0 : std::prev(it)->first;
}

uint64_t* FakeDriver::cell(CUdeviceptr address) {
  auto it = mappings_.upper_bound(address);
  if (it == mappings_.begin()) return nullptr;
  --it;
  if (address >= it->first + it->second.bytes || it->second.devices == 0) return nullptr;
  Frame& frame = frames_[it->second.frame];
  if (frame.cells.empty()) frame.cells.assign(frame.bytes / kCell, 0);
  return &frame.cells[(address - it->first) / kCell];
}

void FakeDriver::write(CUdeviceptr address, uint64_t value) {
  std::lock_guard lock(mutex_);
  uint64_t* const found = cell(address);
  if (found == nullptr) return problem("the program writes an unmapped address");
  *found = value;
}

uint64_t FakeDriver::read(CUdeviceptr address) {
  std::lock_guard lock(mutex_);
  const uint64_t* const found = cell(address);
  if (found != nullptr) return *found;
  problem("the program reads an unmapped address");
  return 0;
}

bool FakeDriver::busy() const {
  return std::any_of(work_.begin(), work_.end(),
                     [](const auto& w) { return w.second.finished < w.second.submitted; });
}

// Nothing reads or writes these addresses, and nothing can begin to.
void FakeDriver::check_undisturbed(CUdeviceptr address, size_t bytes) {
  const auto meets = [&](CUdeviceptr a, size_t n) { return a < address + bytes && address < a + n; };
  for (const auto& [handle, stream] : streams_) {
    for (const Operation& o : stream.queue) {
      if ((o.mark == nullptr && meets(o.to, o.bytes)) || meets(o.from, o.bytes))
        problem("unmap under a copy");
    }
  }
  for (const auto& [running, n] : running_) {
    if (meets(running, n)) problem("unmap of a page that running work uses");
  }
  for (const auto& [used, n] : used_) {
    if (beside || !meets(used, n)) continue;
    if (gate != nullptr && !gate->is_shut()) problem("unmap of a used page with the gate open");
    if (busy()) problem("unmap of a used page while work runs");
  }
}

CUresult FakeDriver::stream_create(CUcontext context, CUstream* stream) noexcept {
  std::lock_guard lock(mutex_);
  if (const CUresult r = enter("stream_create")) return r;
  *stream = reinterpret_cast<CUstream>(next_handle_++ * 16);
  streams_[*stream].context = context;
  return CUDA_SUCCESS;
}

void FakeDriver::stream_destroy(CUcontext context, CUstream stream) noexcept {
  std::lock_guard lock(mutex_);
  enter("stream_destroy");
  const auto it = streams_.find(stream);
  if (it == streams_.end() || it->second.context != context) return problem("destruction of an unknown stream");
  if (!it->second.queue.empty()) problem("destruction of a stream with copies under way");
  streams_.erase(it);
  mark_buffers_.erase(context);
}

void FakeDriver::queue(Stream& stream, const Operation& operation) {
  if (!beside && gate != nullptr && !gate->is_shut()) problem("a copy begun with the gate open");
  stream.queue.push_back(operation);
  ++stream.queued;
}

void FakeDriver::run_next(Stream& stream) {
  if (stream.queue.empty()) return;
  const Operation o = stream.queue.front();
  stream.queue.pop_front();
  ++stream.done;
  if (o.until != nullptr) {
    const auto other = streams_.find(o.until);
    while (other != streams_.end() && other->second.done < o.covers) run_next(other->second);
    return;
  }
  if (!beside && gate != nullptr && !gate->is_shut()) problem("a copy made with the gate open");
  if (!beside && busy()) problem("a copy made while work runs");
  pool::Fingerprint mark{{o.bytes, 0x9e3779b97f4a7c15u}};
  for (size_t at = 0; at < o.bytes; at += kCell) {
    const uint64_t* const from = cell(o.from + at);
    uint64_t* const to = o.mark == nullptr ? cell(o.to + at) : &mark.words[0];
    if (from == nullptr || to == nullptr) return problem("a copy of unmapped addresses");
    if (o.mark == nullptr) {
      *to = *from;
    } else {
      mark.words[0] = (mark.words[0] ^ *from) * 0x100000001b3u;
      mark.words[1] = (mark.words[1] + *from) * 0xff51afd7ed558ccdu;
    }
  }
  if (o.mark != nullptr) *o.mark = mark;
}

CUresult FakeDriver::copy(CUcontext, CUstream stream, CUdeviceptr to, CUdeviceptr from,
                          size_t bytes) noexcept {
  std::lock_guard lock(mutex_);
  if (const CUresult r = enter("copy")) return r;
  const auto it = streams_.find(stream);
  if (it == streams_.end()) {
    problem("copy on an unknown stream");
    return CUDA_ERROR_INVALID_HANDLE;
  }
  // A real driver crashes at host memory that the context's device does not reach.
  const int device = device_of_locked(it->second.context);
  for (const CUdeviceptr at : {to, from}) {
    const auto mapping = mappings_.upper_bound(at);
    if (mapping != mappings_.begin() && (std::prev(mapping)->second.devices >> device & 1) == 0)
      problem("copy in a context whose device does not reach the memory");
  }
  queue(it->second, {to, from, bytes, nullptr});
  return CUDA_SUCCESS;
}

CUresult FakeDriver::record_on(CUcontext context, CUstream stream, CUevent event) noexcept {
  std::lock_guard lock(mutex_);
  if (const CUresult r = enter("record_on")) return r;
  const auto it = events_.find(event);
  const auto on = streams_.find(stream);
  if (it == events_.end() || it->second.context != context || on == streams_.end()) {
    problem("record of an unknown event or on an unknown stream");
    return CUDA_ERROR_INVALID_HANDLE;
  }
  it->second.stream = stream;
  it->second.covers = on->second.queued;
  return CUDA_SUCCESS;
}

CUresult FakeDriver::wait_on(CUcontext, CUstream stream, CUevent event) noexcept {
  std::lock_guard lock(mutex_);
  if (const CUresult r = enter("wait_on")) return r;
  const auto it = events_.find(event);
  const auto on = streams_.find(stream);
  if (it == events_.end() || on == streams_.end() || it->second.stream == nullptr) {
    problem("wait of an unknown stream or for an event of no stream");
    return CUDA_ERROR_INVALID_HANDLE;
  }
  Operation wait{};
  wait.until = it->second.stream;
  wait.covers = it->second.covers;
  queue(on->second, wait);
  return CUDA_SUCCESS;
}

pool::Fingerprint* FakeDriver::mark_buffer(CUcontext context, size_t* count) noexcept {
  constexpr size_t kMarks = 64;
  std::lock_guard lock(mutex_);
  *count = 0;
  if (enter("mark_buffer") != CUDA_SUCCESS || !marks) return nullptr;
  std::vector<pool::Fingerprint>& own = mark_buffers_[context];
  own.resize(kMarks);
  *count = kMarks;
  return own.data();
}

CUresult FakeDriver::fingerprint(CUcontext context, CUstream stream, const pool::PageRange* pages,
                                 size_t count, CUdeviceptr scratch, pool::Fingerprint* to) noexcept {
  std::lock_guard lock(mutex_);
  if (const CUresult r = enter("fingerprint")) return r;
  const auto it = streams_.find(stream);
  if (it == streams_.end()) {
    problem("fingerprint on an unknown stream");
    return CUDA_ERROR_INVALID_HANDLE;
  }
  const std::vector<pool::Fingerprint>& own = mark_buffers_[context];
  if (it->second.context != context || to < own.data() || to + count > own.data() + own.size()) {
    problem("fingerprints written to what is not the context's");
    return CUDA_ERROR_INVALID_VALUE;
  }
  for (const auto& [other, its] : streams_) {
    for (const Operation& o : its.queue)
      if (other != stream && o.mark != nullptr && o.scratch == scratch)
        problem("scratch memory used by two streams");
  }
  for (size_t i = 0; i < count; ++i) {
    queue(it->second, {0, pages[i].address, pages[i].bytes, to + i, scratch});
  }
  return CUDA_SUCCESS;
}

}  // namespace flexlom::unit
