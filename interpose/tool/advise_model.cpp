#include "interpose/tool/advise_model.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <unordered_map>

#include "pool/residency/decisions.h"
#include "pool/types.h"

namespace flexlom::tool {
namespace {

namespace policy = pool::policy;
using policy::Tick;

constexpr uint64_t kBatch_bytes = 256u << 20;  // Residency::Config::batch_bytes
// Launches that a driver takes before it makes the next one wait.
constexpr size_t kQueue = 1024;
// A fast kernel that reads its data again and again takes this much more of the link than its
// share, for each time that it could have read it from the device's memory (matrix products of 256
// to 8192 rows: 0.7 to 0.8).
constexpr double kReread = 0.7;
// Kernels reach this share of the rate of one that does nothing but read in order (a token's matrix
// by vector products 40 to 44 of 51 GB/s, attention over a long cache 43).
constexpr double kUsual = 0.82;
// More allocations than a kernel has operands are a list, of which one launch does a part: an
// optimizer's, which reads and writes each once. Each way that goes at this share of the rate at
// which kernels only read (AdamW: 42 of 51 GB/s).
constexpr uint32_t kMostOperands = 12;
constexpr double kBothWays = 0.82;
constexpr double kUnmeasured_ns = 5000;  // a submission whose like was never timed
constexpr size_t kMostCached = 1 << 15;  // freed blocks remembered for the next of their size
constexpr double kDirtyTouches = 1.5;    // touched more often than that in one use: written, too

struct Page {
  uint32_t span;
  uint64_t bytes, address;
  bool resident = false, host_copy = false;
};

struct Span {
  uint64_t base = 0, bytes = 0, born = 0;
  uint32_t first = 0, count = 0;  // of its pages
  uint64_t spilled = 0;
  uint32_t place = 0;  // in the list of movable spans, while it is live
  bool movable = false;
  policy::History history;
};

class Replay {
 public:
  Replay(const AdviseJob& job, const LinkModel& link, uint64_t budget)
      : job_(job), link_(link), budget_(budget), span_of_(job.allocations.size(), 0) {}

  Prediction run(uint64_t from_ns, const std::function<void(double)>& progress);

 private:
  void alloc(const AdviseAllocation& a, uint32_t index);
  void free(uint32_t index);
  void launch(const AdviseEvent& event);
  void drop_cached(uint64_t want);
  void release(uint32_t index);
  void compact();
  void revive(uint32_t index);
  void place(Span& span);
  bool move(const policy::Plan& plan, policy::Profile* profile = nullptr);
  bool promote(Tick tick, policy::Profile* profile);
  bool exchange();
  uint64_t spilled_of(const AdviseEvent& event, uint64_t* begun) const;
  static bool begins_use(const Span& span) { return span.history.burst_touches == 0; }
  std::vector<policy::PageView> views(Tick needed);
  double in_place_ns(const AdviseFunction& f, double resident_ns, uint32_t operands,
                     uint64_t touched, uint64_t spilled) const;
  void finished(double at_ns) {
    queue_.push_back(at_ns);
    if (queue_.size() > kQueue) queue_.pop_front();
  }

  uint64_t small_pages() const {
    return (small_ + pool::kGranule - 1) & ~(uint64_t{pool::kGranule} - 1);
  }
  uint64_t spare(bool for_large) const {
    const uint64_t used = used_ + small_pages() + (for_large ? reserve() : 0);
    return budget_ > used ? budget_ - used : 0;
  }
  uint64_t reserve() const { return policy::small_reserve_bytes(budget_); }

  const AdviseJob& job_;
  const LinkModel& link_;
  const uint64_t budget_;
  std::vector<uint32_t> span_of_;  // by allocation, plus 1; 0: small or not there
  std::vector<Span> spans_;
  std::vector<Page> pages_;
  std::vector<uint32_t> free_spans_;
  size_t pages_in_use_ = 0;
  std::vector<uint32_t> page_of_view_;
  std::vector<uint32_t> movable_;                  // spans with pages that may move, live
  std::unordered_map<uint64_t, uint32_t> cached_;  // freed spans by base, which keep their frames
  std::deque<uint32_t> cached_order_;
  uint64_t used_ = 0, small_ = 0, made_ = 0;  // device bytes of large and small; ever made
  uint64_t host_ = 0;                         // bytes of host frames, copies included
  Tick tick_ = 0;
  std::unordered_map<uint32_t, policy::Profile> profiles_;
  policy::ExchangePace pace_;
  policy::ReadyFrames ready_frames_;
  uint64_t promoted_for_ = 0;  // submissions
  uint64_t in_place_count_ = 0, in_place_bytes_ = 0;
  double cpu_ns_ = 0, gpu_ns_ = 0;
  std::deque<double> queue_;  // when the last submissions end
  Prediction result_;
};

std::vector<policy::PageView> Replay::views(Tick needed) {
  std::vector<policy::PageView> list;
  page_of_view_.clear();
  for (const uint32_t s : movable_) {
    const Span& span = spans_[s];
    for (uint32_t p = span.first; p < span.first + span.count; ++p) {
      policy::PageView view;
      view.id = static_cast<uint32_t>(list.size());
      view.bytes = pages_[p].bytes;
      view.address = pages_[p].address;
      view.history = span.history;
      view.resident = pages_[p].resident;
      view.needed = needed != 0 && span.history.last >= needed;
      view.host_copy = pages_[p].host_copy;
      list.push_back(view);
      page_of_view_.push_back(p);
    }
  }
  return list;
}

// What the mover does with a batch, and how long it takes. The profile is that of the function
// whose pages it brings in.
bool Replay::move(const policy::Plan& plan, policy::Profile* profile) {
  double up = 0, down = 0, made = 0, swaps_ns = 0;
  uint64_t left = 0, written = 0;  // as Residency::note_promoted() counts them
  for (const uint32_t id : plan.demote) {
    Page& page = pages_[page_of_view_[id]];
    Span& span = spans_[page.span];
    if (!page.resident) continue;
    const auto bytes = static_cast<double>(page.bytes);
    const bool dirty = double{span.history.touches_per_use} > kDirtyTouches;
    if (!page.host_copy) {
      made += bytes;
      host_ += page.bytes;
    }
    if (!page.host_copy || dirty) down += bytes;
    if (page.host_copy) {
      left += page.bytes;
      if (dirty) written += page.bytes;
    }
    page.resident = false;
    page.host_copy = true;
    span.spilled += page.bytes;
    used_ -= page.bytes;
    swaps_ns += link_.remap_ns;
    result_.down_bytes += page.bytes;
  }
  for (const uint32_t id : plan.promote) {
    Page& page = pages_[page_of_view_[id]];
    if (page.resident || page.bytes > spare(true)) continue;
    up += static_cast<double>(page.bytes);
    page.resident = page.host_copy = true;
    spans_[page.span].spilled -= page.bytes;
    used_ += page.bytes;
    swaps_ns += link_.place_ns;
    result_.up_bytes += page.bytes;
  }
  result_.host_peak_bytes = std::max(result_.host_peak_bytes, host_);
  if (swaps_ns == 0) return false;
  ++result_.batches;
  const double rate = up > 0 && down > 0 ? link_.copy_both : link_.copy;
  double ns = link_.batch_ns + std::max({up / rate * 1e9, down / rate * 1e9, swaps_ns});
  if (up > 0) ns += link_.begin_up_ns;
  if (down > 0) ns += link_.begin_down_ns;
  cpu_ns_ = gpu_ns_ = std::max(cpu_ns_ + made / link_.host_frames * 1e9, gpu_ns_) + ns;
  if (profile != nullptr && up > 0) profile->promoted(left, written);
  return up > 0;
}

bool Replay::promote(Tick tick, policy::Profile* profile) {
  auto list = views(tick);
  return move(policy::plan_promotion(list, kBatch_bytes, spare(true), policy::ready_bytes(budget_),
                                     tick, policy::Kind::automatic),
              profile);
}

bool Replay::exchange() {
  const auto list = views(0);
  const uint64_t ready = ready_frames_.to_leave(promoted_for_, policy::ready_bytes(budget_));
  const policy::Plan plan =
      policy::plan_exchange(list, kBatch_bytes, spare(true), ready, tick_, policy::Kind::automatic);
  const bool moved = move(plan);
  for (const auto* ids : {&plan.promote, &plan.demote}) {
    for (const uint32_t id : *ids) {
      policy::note_move(spans_[pages_[page_of_view_[id]].span].history);
    }
  }
  return moved;
}

void Replay::drop_cached(uint64_t want) {
  while ((spare(true) < want || cached_.size() > kMostCached) && !cached_order_.empty()) {
    const uint32_t index = cached_order_.front();
    cached_order_.pop_front();
    const auto found = cached_.find(spans_[index].base);
    if (found == cached_.end() || found->second != index) continue;
    cached_.erase(found);
    release(index);
  }
}

void Replay::release(uint32_t index) {
  Span& span = spans_[index];
  for (uint32_t p = span.first; p < span.first + span.count; ++p) {
    if (pages_[p].resident) used_ -= pages_[p].bytes;
    if (!pages_[p].resident || pages_[p].host_copy) host_ -= pages_[p].bytes;
  }
  pages_in_use_ -= span.count;
  span.count = 0;
  free_spans_.push_back(index);
}

// A job that allocates for hours needs no more memory here than what it holds at one time.
void Replay::compact() {
  if (pages_.size() < 2 * pages_in_use_ + kMostCached) return;
  std::vector<Page> kept;
  kept.reserve(pages_in_use_);
  for (Span& span : spans_) {
    if (span.count == 0) continue;
    const auto begin = pages_.begin() + span.first;
    span.first = static_cast<uint32_t>(kept.size());
    kept.insert(kept.end(), begin, begin + span.count);
  }
  pages_ = std::move(kept);
}

void Replay::revive(uint32_t index) {
  Span& span = spans_[index];
  if (!span.movable) return;
  span.place = static_cast<uint32_t>(movable_.size());
  movable_.push_back(index);
}

// Frames for the pages of a new span, the largest first: on the device as far as there is room.
void Replay::place(Span& span) {
  const auto index = static_cast<uint32_t>(&span - spans_.data());
  uint64_t address = span.base, left = span.bytes;
  span.first = static_cast<uint32_t>(pages_.size());
  for (unsigned order = pool::kPageOrders; order-- > 0;) {
    const uint64_t bytes = pool::page_bytes(order);
    for (; left >= bytes; left -= bytes, address += bytes) {
      Page page{index, bytes, address};
      page.resident = bytes <= spare(span.movable);
      if (page.resident) {
        used_ += bytes;
      } else {
        span.spilled += bytes;
        host_ += bytes;
      }
      pages_.push_back(page);
    }
  }
  span.count = static_cast<uint32_t>(pages_.size()) - span.first;
  pages_in_use_ += span.count;
  result_.host_peak_bytes = std::max(result_.host_peak_bytes, host_);
}

void Replay::alloc(const AdviseAllocation& a, uint32_t index) {
  if (!a.large) {
    small_ += a.bytes;
    return;
  }
  const auto cached = cached_.find(a.base);
  if (cached != cached_.end() && spans_[cached->second].bytes == a.bytes) {
    span_of_[index] = cached->second + 1;
    revive(cached->second);
    cached_.erase(cached);
    return;
  }
  if (cached != cached_.end()) {
    release(cached->second);
    cached_.erase(cached);
  }
  const bool movable = a.bytes > pool::kGranule;
  if (a.bytes > spare(movable) || cached_.size() > kMostCached) drop_cached(a.bytes);
  // As DevicePool::make_room() and Residency::make_room().
  while (a.bytes > spare(movable) && a.bytes <= budget_ / policy::kLargestShare) {
    auto list = views(0);
    for (policy::PageView& view : list) {
      const uint64_t born = spans_[pages_[page_of_view_[view.id]].span].born;
      view.needed = policy::is_young(born, made_, budget_);
    }
    policy::Plan plan;
    plan.demote =
        policy::leave_for_new(list, a.bytes - spare(movable), tick_, policy::Kind::automatic);
    if (plan.demote.empty()) break;
    move(plan);
  }
  Span span;
  span.base = a.base;
  span.bytes = a.bytes;
  span.movable = movable;
  made_ += a.bytes;
  span.born = made_;
  compact();
  if (free_spans_.empty()) {
    free_spans_.push_back(static_cast<uint32_t>(spans_.size()));
    spans_.emplace_back();
  }
  const uint32_t slot = free_spans_.back();
  free_spans_.pop_back();
  spans_[slot] = span;
  place(spans_[slot]);
  span_of_[index] = slot + 1;
  revive(slot);
}

void Replay::free(uint32_t index) {
  const AdviseAllocation& a = job_.allocations[index];
  if (!a.large) {
    small_ -= std::min(small_, a.bytes);
    return;
  }
  if (span_of_[index] == 0) return;
  const uint32_t s = span_of_[index] - 1;
  span_of_[index] = 0;
  if (spans_[s].movable) {
    const uint32_t last = movable_.back();
    movable_[spans_[s].place] = last;
    spans_[last].place = spans_[s].place;
    movable_.pop_back();
  }
  cached_[a.base] = s;
  cached_order_.push_back(s);
}

// A kernel cannot have read more than the device's memory gives in its time, whatever the size of
// the allocations it names: then it is taken to have read what is spilled, and not its work space.
// Of a long list it reads a part of each. When it took longer than reading all of them once, it
// reads them again.
double Replay::in_place_ns(const AdviseFunction& f, double resident_ns, uint32_t operands,
                           uint64_t touched, uint64_t spilled) const {
  const float rate = f.in_place_rate();
  const auto spilled_bytes = static_cast<double>(spilled);
  if (rate > 0) return std::max(resident_ns, double{rate} * spilled_bytes);
  const auto all = static_cast<double>(std::max<uint64_t>(touched, 1));
  const double could = resident_ns * link_.device / 1e9;
  double read = std::min(spilled_bytes, could) / kUsual;
  if (could >= all) {
    read = spilled_bytes * std::max(1 / kUsual, kReread * could / all);
  } else if (operands > kMostOperands) {
    read = spilled_bytes * could / all;
  }
  return std::max(resident_ns, read / link_.in_place * 1e9);
}

// Of what the event names; `begun`: of that, where this is the first touch of a use.
uint64_t Replay::spilled_of(const AdviseEvent& event, uint64_t* begun) const {
  uint64_t sum = 0;
  *begun = 0;
  std::vector<uint32_t> seen;
  for (uint32_t i = event.first; i < event.first + event.count; ++i) {
    const uint32_t s = span_of_[job_.touches[i]];
    if (s == 0 || std::find(seen.begin(), seen.end(), s) != seen.end()) continue;
    seen.push_back(s);
    sum += spans_[s - 1].spilled;
    if (begins_use(spans_[s - 1])) *begun += spans_[s - 1].spilled;
  }
  return sum;
}

void Replay::launch(const AdviseEvent& event) {
  const auto known = job_.functions.find(event.index);
  static const AdviseFunction nothing;
  const AdviseFunction& f = known != job_.functions.end() ? known->second : nothing;
  policy::Profile* const profile = f.kernel ? &profiles_[event.index] : nullptr;
  const float known_rate = profile != nullptr ? profile->ns_per_byte() : 0;
  const float cost = known_rate > 0 ? known_rate : policy::kLink_ns_per_byte;
  Tick tick = 0;
  uint64_t touched = 0, spilled = 0, begun = 0;  // of what is spilled, what begins a use
  double weighted = 0;
  for (uint32_t i = event.first; i < event.first + event.count; ++i) {
    const uint32_t s = span_of_[job_.touches[i]];
    if (s == 0) continue;
    Span& span = spans_[s - 1];
    if (tick == 0) tick = ++tick_;
    if (span.history.last == tick) continue;
    policy::touch(span.history, tick, cost);
    touched += span.bytes;
    spilled += span.spilled;
    if (begins_use(span)) begun += span.spilled;
    weighted += policy::touches_ahead(span.history) * static_cast<double>(span.spilled);
  }
  const double measured_ns = f.resident_ns_of(touched);
  const double resident_ns = measured_ns > 0 ? measured_ns : kUnmeasured_ns;
  double work_ns = resident_ns;
  if (spilled > 0) {
    const double ahead = weighted / static_cast<double>(spilled);
    policy::Profile::Choice choice;
    if (profile != nullptr) choice = profile->choose(spilled, ahead, policy::Kind::automatic);
    if (choice.promote_first && promote(tick, profile)) {
      ++promoted_for_;
    } else {
      const bool ask = pace_.due(in_place_count_ + 1, in_place_bytes_ + spilled);
      const bool moved = ask && exchange();
      if (moved) spilled = spilled_of(event, &begun);
      if (spilled > 0) {
        if (f.kernel) work_ns = in_place_ns(f, resident_ns, event.count, touched, spilled);
        // What it reads of a list says how fast it is; what the list takes is paid where it begins.
        if (choice.measure) profile->observe(spilled, static_cast<uint64_t>(work_ns));
        if (f.kernel && event.count > kMostOperands && f.in_place_rate() == 0)
          work_ns =
              std::max(resident_ns, static_cast<double>(begun) / kBothWays / link_.in_place * 1e9);
        ++in_place_count_;
        result_.in_place_bytes += spilled;
        in_place_bytes_ += spilled;
      }
      if (ask) pace_.done(in_place_count_, in_place_bytes_, moved);
    }
  }
  if (queue_.size() >= kQueue) cpu_ns_ = std::max(cpu_ns_, queue_.front());
  gpu_ns_ = std::max(gpu_ns_, cpu_ns_) + work_ns;
  finished(gpu_ns_);
}

Prediction Replay::run(uint64_t from_ns, const std::function<void(double)>& progress) {
  result_.budget_bytes = budget_;
  uint64_t last_ns = job_.events.empty() ? 0 : job_.events.front().at_ns;
  double begin_ns = 0;
  bool begun = false;
  size_t done = 0;
  for (const AdviseEvent& event : job_.events) {
    if (progress && (done++ & 0xffff) == 0)
      progress(static_cast<double>(done) / static_cast<double>(job_.events.size()));
    const uint64_t gap = event.at_ns > last_ns ? event.at_ns - last_ns : 0;
    last_ns = std::max(last_ns, event.at_ns);
    cpu_ns_ += static_cast<double>(gap - std::min(gap, event.wait_ns));
    if (!begun && event.at_ns >= from_ns) {
      begun = true;
      begin_ns = std::max(cpu_ns_, gpu_ns_);
      result_.up_bytes = result_.down_bytes = result_.in_place_bytes = result_.batches = 0;
    }
    switch (event.kind) {
      case AdviseEvent::Kind::alloc:
        alloc(job_.allocations[event.index], event.index);
        break;
      case AdviseEvent::Kind::free:
        free(event.index);
        break;
      case AdviseEvent::Kind::launch:
        launch(event);
        break;
      case AdviseEvent::Kind::wait:
        if (event.count == 0) cpu_ns_ = std::max(cpu_ns_, gpu_ns_);
        break;
    }
  }
  result_.whole_seconds = std::max(cpu_ns_, gpu_ns_) / 1e9;
  result_.seconds = result_.whole_seconds - begin_ns / 1e9;
  return result_;
}

}  // namespace

Prediction predict(const AdviseJob& job, const LinkModel& link, uint64_t budget_bytes,
                   uint64_t from_ns, const std::function<void(double)>& progress) {
  return Replay(job, link, budget_bytes).run(from_ns, progress);
}

}  // namespace flexlom::tool
