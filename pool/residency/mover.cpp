#include "pool/residency/mover.h"

#include <sched.h>

#include <algorithm>

#include "pool/device_pool.h"

namespace flexlom::pool {

namespace {

// A try that failed is followed by a pause of four times what it cost, doubled each time.
constexpr uint64_t kPause = 4;
constexpr uint64_t kFirstPause_ns = 50'000'000;
constexpr uint64_t kLongestPause_ns = 60'000'000'000;
constexpr uint64_t kLongestReaderPause_ns = 200'000'000;
constexpr uint64_t kMostPatience = 8;

uint64_t now_ns() noexcept { return ThreadSync::now_ns(); }

// Adds the time of its life to a sum.
class Timer {
 public:
  explicit Timer(uint64_t& sum) noexcept : sum_(sum), start_(now_ns()) {}
  ~Timer() { sum_ += now_ns() - start_; }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

 private:
  uint64_t& sum_;
  const uint64_t start_;
};

}  // namespace

bool Mover::worth_trying() const noexcept {
  if (fence_.capture_open()) return false;
  if (now_ns() >= not_before_ns_.load(std::memory_order_relaxed)) return true;
  const uint64_t epoch = stuck_epoch_.load(std::memory_order_relaxed);
  return epoch != 0 && fence_.passed(epoch);
}

MoveStats Mover::stats() const {
  std::lock_guard lock(stats_mutex_);
  return stats_;
}

void Mover::release_context(CUcontext context) noexcept {
  const auto found = streams_.find(context);
  if (found == streams_.end()) return;
  finish_arrivals(context);
  for (const CUevent event : found->second.events) driver_.event_destroy(context, event);
  for (const CUevent event : found->second.arrivals) driver_.event_destroy(context, event);
  if (found->second.marks != nullptr) driver_.stream_destroy(context, found->second.marks);
  driver_.stream_destroy(context, found->second.down);
  driver_.stream_destroy(context, found->second.up);
  streams_.erase(found);
}

Mover::Streams* Mover::streams_of(CUcontext context) {
  const auto found = streams_.find(context);
  if (found != streams_.end()) return &found->second;
  Streams made;
  if (driver_.stream_create(context, &made.down) != CUDA_SUCCESS) return nullptr;
  if (driver_.stream_create(context, &made.up) != CUDA_SUCCESS) {
    driver_.stream_destroy(context, made.down);
    return nullptr;
  }
  return &streams_.emplace(context, std::move(made)).first->second;
}

CUevent Mover::event_of(const Batch& batch, Streams& streams, size_t index) {
  while (streams.events.size() <= index) {
    CUevent event = nullptr;
    if (driver_.event_create(batch.context, &event) != CUDA_SUCCESS) return nullptr;
    streams.events.push_back(event);
  }
  return streams.events[index];
}

void Mover::give_up(Job& job, GaveUp why) {
  job.outcome.given_up = true;
  {
    std::lock_guard lock(stats_mutex_);
    ++stats_.given_up[static_cast<size_t>(why)];
  }
  if (observer_ != nullptr) observer_->gave_up(job.batch.pool->device(), why);
}

Outcome Mover::run(Batch batch) {
  std::lock_guard lock(mutex_);
  batch.context = fence_.context_on(batch.pool->device(), batch.context);
  Streams none;
  if (fence_.capture_open()) {
    Job job{batch, none, {}, {}, 0, {}};
    give_up(job, GaveUp::capture);
    return job.outcome;
  }
  // Without events of the context a fence is a wait without a bound, which nobody may be held for.
  Streams* streams = nullptr;
  if (driver_.has_context_events() && batch.context != nullptr)
    fence_.without_capture([&] { streams = streams_of(batch.context); });
  Job job{batch, streams != nullptr ? *streams : none, {}, {}, 0, {}};
  if (streams == nullptr) {
    give_up(job, GaveUp::context);
    return job.outcome;
  }
  begin(job);
  if (job.down.empty() && job.up.empty()) {
    give_up(job, GaveUp::no_memory);
    return job.outcome;
  }
  if (!quiet(job)) {
    cancel(job);
    return job.outcome;
  }
  const uint64_t shut = now_ns();
  {
    // Whatever happens in between, the gate opens.
    struct Open {
      Gate& gate;
      ~Open() { gate.open(); }
    } opener{gate_};
    execute(job);
  }
  job.outcome.shut_ns = now_ns() - shut;
  note_times();
  std::lock_guard stats_lock(stats_mutex_);
  ++stats_.batches;
  stats_.shut_ns += job.outcome.shut_ns;
  stats_.longest_shut_ns = std::max(stats_.longest_shut_ns, job.outcome.shut_ns);
  return job.outcome;
}

void Mover::note_times() {
  std::lock_guard stats_lock(stats_mutex_);
  stats_.begin_ns = times_.begin_ns;
  stats_.drain_ns = times_.drain_ns;
  stats_.compare_ns = times_.compare_ns;
  stats_.place_ns = times_.place_ns;
  stats_.demote_ns = times_.demote_ns;
  stats_.wait_ns = times_.wait_ns;
}

bool Mover::while_quiet(DevicePool& pool, const std::function<void()>& fn) {
  std::lock_guard lock(mutex_);
  const Batch batch{&pool, nullptr, {}, {}};
  Streams none;
  Job job{batch, none, {}, {}, 0, {}};
  if (fence_.capture_open() || !driver_.has_context_events()) {
    give_up(job, fence_.capture_open() ? GaveUp::capture : GaveUp::context);
    return false;
  }
  if (!quiet(job)) return false;
  struct Open {
    Gate& gate;
    ~Open() { gate.open(); }
  } opener{gate_};
  fn();
  return true;
}

void Mover::begin(Job& job) {
  const Timer timer(times_.begin_ns);
  // A page that was begun must not be forgotten.
  job.down.reserve(job.batch.down.size());
  job.up.reserve(job.batch.up.size());
  for (const PageId& page : job.batch.down) {
    Down down;
    if (job.batch.pool->begin_demote(page, &down.move) == CUDA_SUCCESS) job.down.push_back(down);
  }
  for (const PageId& page : job.batch.up) {
    Move move;
    if (job.batch.pool->begin_promote(page, &move) == CUDA_SUCCESS) job.up.push_back(move);
  }
}

void Mover::cancel(Job& job) {
  for (const Down& down : job.down) job.batch.pool->cancel_demote(down.move);
  for (const Move& move : job.up) job.batch.pool->finish_promote(move, false, nullptr);
}

// All work submitted so far has ended. Whoever submits much ahead is waited for as long as its work
// goes on ending; a kernel that spins is not.
bool Mover::drained(uint64_t epoch) {
  const Timer timer(times_.drain_ns);
  const uint64_t stuck_ns = limits_.stuck_ns * patience_;
  const uint64_t start = now_ns();
  uint64_t seen = fence_.done();
  uint64_t since = start;
  for (;;) {
    constexpr uint64_t kSlice_ns = 10'000'000;
    if (fence_.wait(epoch, kSlice_ns)) return true;
    const uint64_t now = now_ns();
    if (fence_.done() != seen) {
      seen = fence_.done();
      since = now;
    }
    if (fence_.capture_open() || now - since > stuck_ns || now - start > limits_.drain_ns)
      return false;
  }
}

// True: the gate is shut, nobody is inside, and all work is done.
bool Mover::quiet(Job& job) {
  const uint64_t start = now_ns();
  if (const uint64_t epoch = stuck_epoch_.exchange(0); epoch != 0 && fence_.passed(epoch)) {
    patience_ = std::min(patience_ * 2, kMostPatience);
    pause_ns_ = 0;
  }
  const auto later = [&](GaveUp why, uint64_t epoch = 0) {
    const uint64_t cost = (now_ns() - start) * kPause;
    // A thread inside a blocking copy is soon out again; a kernel that spins may never be.
    const uint64_t longest = why == GaveUp::readers ? kLongestReaderPause_ns : kLongestPause_ns;
    pause_ns_ = std::clamp(std::max(pause_ns_ * 2, cost), kFirstPause_ns, longest);
    not_before_ns_.store(now_ns() + pause_ns_, std::memory_order_relaxed);
    stuck_epoch_.store(why == GaveUp::work ? epoch : 0, std::memory_order_relaxed);
    give_up(job, why);
    return false;
  };
  const uint64_t before = fence_.stamp();
  if (!drained(before))
    return later(fence_.capture_open() ? GaveUp::capture : GaveUp::work, before);
  if (!gate_.close(limits_.readers_ns)) return later(GaveUp::readers);
  // Nobody is inside, so a capture is either known to the fence or cannot begin.
  GaveUp why = GaveUp::count_;
  const uint64_t last = fence_.stamp();
  if (fence_.capture_open()) {
    why = GaveUp::capture;
  } else if (!fence_.wait(last, limits_.work_ns)) {
    why = GaveUp::work;
  }
  if (why != GaveUp::count_) {
    gate_.open();
    return later(why, last);
  }
  pause_ns_ = 0;
  return true;
}

bool Mover::wait_for(CUevent event) {
  const Timer timer(times_.wait_ns);
  const uint64_t start = now_ns();
  for (;;) {
    const CUresult r = driver_.query(event);
    if (r == CUDA_SUCCESS) return true;
    if (r != CUDA_ERROR_NOT_READY || now_ns() - start > limits_.copy_ns) return false;
    sched_yield();
  }
}

// When an event cannot tell that our copies are over, this waits for them: a swap under a copy, or
// a frame used again under one, is a wrong byte, so here alone giving up is no way out. Only our
// own work is left in the context. False: it is not known whether the bytes arrived.
bool Mover::settle(Job& job) {
  const Timer timer(times_.wait_ns);
  CUresult r = CUDA_SUCCESS;
  constexpr int kTries = 3;  // an error that stays is the context's end, and that of all its copies
  for (int i = 0; i < kTries; ++i) {
    r = driver_.synchronize(job.batch.context);
    if (r == CUDA_SUCCESS) break;
  }
  return r == CUDA_SUCCESS;
}

// Which pages are still equal to the host's copy of them.
void Mover::compare_marks(Job& job) {
  const Timer timer(times_.compare_ns);
  size_t room = 0;
  Fingerprint* marks = driver_.mark_buffer(job.batch.context, &room);
  room /= 2;  // the other half is for arrivals
  std::vector<PageRange> ranges;
  std::vector<size_t> which;
  for (size_t i = 0; marks != nullptr && i < job.down.size() && ranges.size() < room; ++i) {
    if (!job.down[i].move.has_mark) continue;
    ranges.push_back({job.down[i].move.address, job.down[i].move.bytes});
    which.push_back(i);
  }
  if (ranges.empty()) return;
  const CUevent done = event_of(job.batch, job.streams, 0);
  const CUdeviceptr scratch = job.batch.pool->scratch();
  if (done == nullptr || scratch == 0) return;
  const bool computed =
      driver_.fingerprint(job.batch.context, job.streams.down, ranges.data(), ranges.size(),
                          scratch, marks) == CUDA_SUCCESS &&
      driver_.record_on(job.batch.context, job.streams.down, done) == CUDA_SUCCESS &&
      wait_for(done);
  if (!computed) {
    // Some may have been begun, and the buffer is written for other pages next.
    settle(job);
    return;
  }
  for (size_t i = 0; i < which.size(); ++i) {
    Down& down = job.down[which[i]];
    down.clean = marks[i] == down.move.mark;
  }
}

void Mover::start_saving(Job& job) {
  for (size_t i = 0; i < job.down.size(); ++i) {
    Down& down = job.down[i];
    if (down.clean) continue;
    down.move.overwriting = true;
    // Event 0 is the batch's own.
    const CUevent event = event_of(job.batch, job.streams, i + 1);
    down.copying = driver_.copy(job.batch.context, job.streams.down, down.move.host.window,
                                down.move.address, down.move.bytes) == CUDA_SUCCESS;
    if (down.copying && event != nullptr &&
        driver_.record_on(job.batch.context, job.streams.down, event) == CUDA_SUCCESS) {
      down.copied = event;
    }
  }
}

// Swaps the next page whose bytes are safe on the host. False: there is none left.
bool Mover::demote_next(Job& job) {
  while (job.next_down < job.down.size()) {
    Down& down = job.down[job.next_down++];
    const bool safe = down.clean || (down.copied != nullptr && wait_for(down.copied)) ||
                      (settle(job) && down.copying);
    const Timer timer(times_.demote_ns);
    if (!safe) {
      job.batch.pool->cancel_demote(down.move);
      continue;
    }
    if (job.batch.pool->finish_demote(down.move) != CUDA_SUCCESS) continue;
    note_demoted(job, down);
    return true;
  }
  return false;
}

void Mover::note_demoted(Job& job, const Down& down) {
  job.outcome.down_bytes += down.move.bytes;
  if (!down.clean) job.outcome.down_copied_bytes += down.move.bytes;
  if (!down.move.has_mark) job.outcome.down_unknown_bytes += down.move.bytes;
  {
    std::lock_guard lock(stats_mutex_);
    ++stats_.demoted_pages;
    stats_.demoted_bytes += down.move.bytes;
    stats_.clean_pages += down.clean;
    if (!down.clean) stats_.demoted_copied_bytes += down.move.bytes;
  }
  if (observer_ != nullptr)
    observer_->moved(
        {job.batch.pool->device(), down.move.address, down.move.bytes, Where::host, !down.clean});
}

void Mover::note_promoted(DevicePool& pool, const Move& move) {
  {
    std::lock_guard lock(stats_mutex_);
    ++stats_.promoted_pages;
    stats_.promoted_bytes += move.bytes;
  }
  if (observer_ != nullptr)
    observer_->moved({pool.device(), move.address, move.bytes, Where::device, true});
}

void Mover::execute(Job& job) {
  compare_marks(job);
  std::stable_partition(job.down.begin(), job.down.end(), [](const Down& d) { return d.clean; });
  start_saving(job);

  size_t room = 0;
  Fingerprint* marks = driver_.mark_buffer(job.batch.context, &room);
  room /= 2;
  const CUdeviceptr scratch = job.up.empty() ? 0 : job.batch.pool->scratch();
  struct Up {
    bool started = false, marked = false;
  };
  std::vector<Up> ups(job.up.size());
  for (size_t i = 0; i < job.up.size(); ++i) {
    Move& move = job.up[i];
    const auto place = [&] {
      const Timer timer(times_.place_ns);
      return job.batch.pool->place_promoted(&move);
    };
    CUresult r = place();
    while (r == CUDA_ERROR_OUT_OF_MEMORY && demote_next(job)) r = place();
    if (r != CUDA_SUCCESS) continue;
    ups[i].started = driver_.copy(job.batch.context, job.streams.up, move.address, move.host.window,
                                  move.bytes) == CUDA_SUCCESS;
    const PageRange range{move.address, move.bytes};
    ups[i].marked =
        ups[i].started && marks != nullptr && i < room && scratch != 0 &&
        driver_.fingerprint(job.batch.context, job.streams.up, &range, 1,
                            scratch + Driver::kFingerprintScratchBytes, marks + i) == CUDA_SUCCESS;
  }
  while (demote_next(job)) {
  }
  const CUevent done = event_of(job.batch, job.streams, 0);
  const bool arrived =
      !job.up.empty() &&
      ((done != nullptr &&
        driver_.record_on(job.batch.context, job.streams.up, done) == CUDA_SUCCESS &&
        wait_for(done)) ||
       settle(job));
  for (size_t i = 0; i < job.up.size(); ++i) {
    const Move& move = job.up[i];
    const bool good = move.placed && ups[i].started && arrived;
    job.batch.pool->finish_promote(move, good, good && ups[i].marked ? marks + i : nullptr);
    if (!good) continue;
    job.outcome.up_bytes += move.bytes;
    note_promoted(*job.batch.pool, move);
  }
}

}  // namespace flexlom::pool
