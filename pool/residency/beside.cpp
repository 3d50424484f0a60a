// Batches beside running work, and the arrivals that they leave under way.
//
// The pages are claimed: nothing uses them, and whatever names them waits. So they are remapped at
// once, with the gate open and the device busy. A page on its way up is filled by a copy that is
// still running when the claim ends; from then on a submission that names it makes its stream wait
// for the arrival. The fingerprint of what arrived is part of the arrival: taken later, it might be
// that of bytes which the program has written, and prove a wrong copy right.
#include <algorithm>

#include "pool/device_pool.h"
#include "pool/residency/mover.h"

namespace flexlom::pool {

namespace {
// Scratch areas for fingerprints: that of comparisons, of strict arrivals, and of these.
constexpr size_t kScratch = 2 * Driver::kFingerprintScratchBytes;
}  // namespace

Outcome Mover::run_beside(Batch batch, uint64_t* arrival) {
  *arrival = 0;
  batch.context = fence_.context_on(batch.pool->device(), batch.context);
  Streams none;
  Streams* streams = nullptr;
  if (driver_.has_context_events() && batch.context != nullptr) {
    fence_.without_capture([&] {
      streams = streams_of(batch.context);
      if (streams != nullptr && streams->marks == nullptr &&
          driver_.stream_create(batch.context, &streams->marks) != CUDA_SUCCESS)
        streams = nullptr;
    });
  }
  Job job{batch, streams != nullptr ? *streams : none, {}, {}, 0, {}};
  if (streams == nullptr) {
    give_up(job, fence_.capture_open() ? GaveUp::capture : GaveUp::context);
    return job.outcome;
  }
  begin(job);
  if (job.down.empty() && job.up.empty()) {
    give_up(job, GaveUp::no_memory);
    return job.outcome;
  }
  bool compared = false;
  std::vector<Move> started;
  for (Move& move : job.up) {
    const auto place = [&] {
      const uint64_t start = ThreadSync::now_ns();
      const CUresult r = batch.pool->place_promoted(&move);
      times_.place_ns += ThreadSync::now_ns() - start;
      return r;
    };
    CUresult r = place();
    while (r == CUDA_ERROR_OUT_OF_MEMORY && demote_beside(job, &compared)) r = place();
    if (r == CUDA_SUCCESS && driver_.copy(batch.context, job.streams.up, move.address,
                                          move.host.window, move.bytes) == CUDA_SUCCESS) {
      started.push_back(move);
      job.outcome.up_bytes += move.bytes;
    } else {
      batch.pool->finish_promote(move, false, nullptr);
    }
  }
  if (!started.empty()) *arrival = let_arrive(job, std::move(started));
  while (demote_beside(job, &compared)) {
  }
  note_times();
  std::lock_guard lock(stats_mutex_);
  ++stats_.batches;
  ++stats_.beside;
  return job.outcome;
}

bool Mover::demote_beside(Job& job, bool* compared) {
  if (!*compared) {
    compare_marks(job);
    std::stable_partition(job.down.begin(), job.down.end(), [](const Down& d) { return d.clean; });
    start_saving(job);
    *compared = true;
  }
  return demote_next(job);
}

// Returns the arrival's number, 0 when it is over already.
uint64_t Mover::let_arrive(Job& job, std::vector<Move> moves) {
  const Batch& batch = job.batch;
  Streams& streams = job.streams;
  size_t room = 0;
  Fingerprint* const marks = driver_.mark_buffer(batch.context, &room);
  const size_t half = room / 2;
  const CUdeviceptr scratch = batch.pool->scratch();
  CUevent event = nullptr;
  if (!streams.arrivals.empty()) {
    event = streams.arrivals.back();
    streams.arrivals.pop_back();
  } else if (driver_.event_create(batch.context, &event) != CUDA_SUCCESS) {
    event = nullptr;
  }
  Arrival arrival{0, batch.pool, batch.context, event, std::move(moves), {}};
  arrival.marks.resize(arrival.moves.size(), nullptr);
  bool recorded =
      event != nullptr && driver_.record_on(batch.context, streams.up, event) == CUDA_SUCCESS;
  size_t outstanding = arrival.moves.size();
  bool scratch_in_use = scratch == 0;
  for (const Arrival& a : arrivals_) {
    outstanding += a.moves.size();
    // What another context's stream does is not ordered with what comes on ours.
    scratch_in_use |= a.pool == batch.pool && a.context != batch.context;
  }
  // The fingerprints are taken on a stream of their own, so that the next copies need not wait for
  // processors that the program keeps busy.
  if (recorded && marks != nullptr && !scratch_in_use && outstanding <= half &&
      driver_.wait_on(batch.context, streams.marks, event) == CUDA_SUCCESS) {
    for (size_t i = 0; i < arrival.moves.size(); ++i) {
      const PageRange range{arrival.moves[i].address, arrival.moves[i].bytes};
      Fingerprint* const mark = marks + half + marks_used_++ % half;
      if (driver_.fingerprint(batch.context, streams.marks, &range, 1, scratch + kScratch, mark) ==
          CUDA_SUCCESS)
        arrival.marks[i] = mark;
    }
    recorded = driver_.record_on(batch.context, streams.marks, event) == CUDA_SUCCESS;
  }
  if (!recorded) {
    // Nothing could be waited for but the copies themselves.
    const bool arrived = settle(job);
    for (const Move& move : arrival.moves) {
      batch.pool->finish_promote(move, arrived, nullptr);
      if (arrived) note_promoted(*batch.pool, move);
    }
    if (event != nullptr) streams.arrivals.push_back(event);
    return 0;
  }
  std::lock_guard lock(arrivals_mutex_);
  arrival.number = arrivals_made_.load(std::memory_order_relaxed) + 1;
  arrivals_.push_back(std::move(arrival));
  arrivals_made_.store(arrivals_.back().number, std::memory_order_release);
  return arrivals_.back().number;
}

// Of the oldest.
void Mover::finish_arrival(bool arrived) noexcept {
  Arrival& arrival = arrivals_.front();
  for (size_t i = 0; i < arrival.moves.size(); ++i) {
    // A copy that failed took its context with it: nobody will read the page.
    arrival.pool->finish_promote(arrival.moves[i], true, arrived ? arrival.marks[i] : nullptr);
    note_promoted(*arrival.pool, arrival.moves[i]);
  }
  arrivals_over_.store(arrival.number, std::memory_order_release);
  const auto streams = streams_.find(arrival.context);
  std::lock_guard lock(arrivals_mutex_);
  if (streams != streams_.end()) streams->second.arrivals.push_back(arrival.event);
  arrivals_.pop_front();
}

void Mover::harvest() noexcept {
  while (!arrivals_.empty()) {
    CUresult r = CUDA_ERROR_NOT_READY;
    fence_.without_capture([&] { r = driver_.query(arrivals_.front().event); });
    if (r == CUDA_ERROR_NOT_READY) return;
    finish_arrival(r == CUDA_SUCCESS);
  }
}

void Mover::try_harvest() noexcept {
  std::unique_lock lock(mutex_, std::try_to_lock);
  if (lock.owns_lock()) harvest();
}

void Mover::finish_arrivals(CUcontext context) noexcept {
  const auto pending = [&] {
    return std::any_of(arrivals_.begin(), arrivals_.end(), [&](const Arrival& a) {
      return context == nullptr || a.context == context;
    });
  };
  // In order, so others' that are older come first.
  while (pending()) {
    Streams none;
    const Batch batch{arrivals_.front().pool, arrivals_.front().context, {}, {}};
    Job job{batch, none, {}, {}, 0, {}};
    finish_arrival(wait_for(arrivals_.front().event) || settle(job));
  }
}

void Mover::settle_arrivals() noexcept {
  std::lock_guard lock(mutex_);
  finish_arrivals(nullptr);
}

// An event is destroyed, or used again, after its arrival has left the list.
bool Mover::while_arriving(uint64_t arrival, const std::function<void(CUevent)>& fn) noexcept {
  if (arrival <= arrivals_over_.load(std::memory_order_acquire)) return false;
  std::lock_guard lock(arrivals_mutex_);
  bool any = false;
  for (auto a = arrivals_.begin(); a != arrivals_.end() && a->number <= arrival; ++a) {
    // In one context they are over in order, and the last stands for all.
    const auto later = [&](const Arrival& b) {
      return b.number <= arrival && b.context == a->context;
    };
    if (std::any_of(std::next(a), arrivals_.end(), later)) continue;
    fn(a->event);
    any = true;
  }
  return any;
}

}  // namespace flexlom::pool
