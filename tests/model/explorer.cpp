#include "tests/model/explorer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <set>
#include <utility>

#include "tests/model/state.h"

namespace flexlom::model {

namespace {

// Zeroes the stack below the caller's frame. What earlier calls left there would show up in padding
// of later frames and tell states apart that are the same.
[[gnu::noinline]] void scrub() {
  char below[512];
  memset(below, 0, sizeof below);
  asm volatile("" : : "r"(below) : "memory");
}

class Explorer {
 public:
  Explorer(const Program& program, Owners& owners) : program_(program), owners_(owners) {}

  Verdict run();
  bool must_begin_anew() const { return must_begin_anew_; }

  // Called on the stack of the thread that runs.
  unsigned stop(Until until, const Word* word = nullptr, uint32_t value = 0, unsigned ways = 1) {
    if (!in_thread_) return 0;
    if (word != nullptr) use(word);
    Stop& s = stops_[current_];
    s = {s.stack, word, until, value, ways};
    scrub();
    flexlom_model_switch(&s.stack, main_stack_);
    scrub();
    return way_;
  }
  void use(const Word* word) {
    if (in_thread_ && owners_.use(word, current_)) must_begin_anew_ = true;
  }
  bool is_own(const Word* word) const { return !in_thread_ || owners_.is_own(word, current_); }
  void run_body() const { program_.threads[current_].body(); }
  size_t current() const { return current_; }
  size_t threads() const { return program_.threads.size(); }
  const std::string& name_of_thread(size_t t) const { return program_.threads[t].name; }
  void violate(const char* what) {
    if (verdict_.violation.empty()) verdict_.violation = what;
  }
  void reach(unsigned bit) { verdict_.reached |= uint64_t{1} << bit; }
  bool saying() const { return saying_; }
  static void drain(size_t thread);  // its oldest store
  void say(const std::string& what) { said_ += (said_.empty() ? "" : "; ") + what; }
  std::string name_of(const Word* word) const {
    const auto it = std::find(words.begin(), words.end(), word);
    const auto at = static_cast<size_t>(it - words.begin());
    return at < names.size() ? names[at] : fmt::format("word {}", at);
  }

  std::vector<const Word*> words;  // in the order in which they were made
  std::vector<std::string> names;

 private:
  static constexpr uint32_t kNone = UINT32_MAX;

  void start();
  void expand(uint32_t at);
  bool advance(uint32_t at, size_t t);
  bool is_alone(const Stop& s, size_t thread) const;
  Stop stop_in(const State& state, size_t thread) const;
  bool may_go_on(const Stop& s, size_t thread) const;
  State make(const State& from, const Move& move);
  void run_thread(const State& from, size_t thread, unsigned way);
  bool add(const State& state, const Move& move);
  bool has_ended(const State& state) const;
  void find_stuck();
  void tell(uint32_t last, const Move* beyond);

  size_t shared_bytes() const { return offsetof(Shared, world) + program_.world_bytes; }
  void load_shared(const State& state) {
    memcpy(static_cast<void*>(&shared), memories_.at(state[kMaxThreads]).data(), shared_bytes());
  }
  uint32_t keep_shared() {
    return memories_.keep({reinterpret_cast<const char*>(&shared), shared_bytes()});
  }
  uint32_t keep_thread(size_t thread) {
    Stop& s = stops_[thread];
    const bool ended = s.until == Until::never;
    if (ended) s.stack = nullptr;
    block_.assign(reinterpret_cast<const char*>(&s), sizeof s);
    if (!ended) block_ += fibers[thread].bytes_from(s.stack);
    return blocks_.keep(block_);
  }

  const Program& program_;
  Owners& owners_;
  bool must_begin_anew_ = false;
  Verdict verdict_;
  Stop stops_[kMaxThreads] = {};
  size_t current_ = 0;
  unsigned way_ = 0;
  bool in_thread_ = false;
  void* main_stack_ = nullptr;

  Blocks memories_;
  Blocks blocks_;  // of threads
  std::string block_;
  std::vector<State> states_;
  std::vector<Move> first_way_in_;
  std::vector<std::pair<uint32_t, uint32_t>> edges_;
  std::vector<uint32_t> ends_;
  std::set<uint32_t> end_memories_;
  std::unordered_map<State, uint32_t, StateHash> numbers_;

  bool saying_ = false;
  std::string said_;
};

Explorer* explorer = nullptr;

void fiber_entry() {
  explorer->run_body();
  explorer->stop(Until::never);
  abort();
}

Verdict Explorer::run() {
  start();
  for (uint32_t at = 0; at < states_.size() && verdict_.violation.empty(); ++at) {
    if (must_begin_anew_ || states_.size() > program_.max_states) return verdict_;
    const State state = states_[at];
    load_shared(state);
    if (has_ended(state)) {
      ends_.push_back(at);
      end_memories_.insert(state[kMaxThreads]);
      const char* wrong = program_.wrong_at_end ? program_.wrong_at_end() : nullptr;
      if (wrong != nullptr) {
        violate(wrong);
        tell(at, nullptr);
        break;
      }
    }
    expand(at);
  }
  verdict_.states = states_.size();
  verdict_.ends = end_memories_.size();
  if (verdict_.violation.empty()) {
    verdict_.complete = true;
    find_stuck();
  }
  return verdict_;
}

void Explorer::expand(uint32_t at) {
  const State state = states_[at];
  load_shared(state);
  // Whoever is alone in what it does next may do it first: nobody could tell the difference. Only
  // when that leads nowhere new the others must get their turn, lest a circle keeps it from them.
  size_t first = program_.threads.size();
  for (size_t t = 0; t < program_.threads.size(); ++t) {
    if (is_alone(stop_in(state, t), t)) first = t;
  }
  if (first < program_.threads.size() && advance(at, first)) return;
  for (size_t t = 0; t < program_.threads.size() && verdict_.violation.empty(); ++t) {
    if (t != first) advance(at, t);
  }
}

// All that can happen next in thread `t`. Whether that led to a new state.
bool Explorer::advance(uint32_t at, size_t t) {
  const State state = states_[at];
  load_shared(state);
  const Stop s = stop_in(state, t);
  const bool stores_wait = shared.buffers[t].used != 0;
  const uint64_t ways = may_go_on(s, t) ? s.ways : 0;
  bool is_new = false;
  for (uint64_t way = 0; way < ways + (stores_wait ? 1 : 0); ++way) {
    const Move move{at, static_cast<uint16_t>(t),
                    way < ways ? static_cast<uint16_t>(way) : Move::kDrain};
    const State next = make(state, move);
    ++verdict_.steps;
    if (!verdict_.violation.empty()) {
      tell(at, &move);
      return true;
    }
    is_new |= add(next, move);
  }
  return is_new;
}

bool Explorer::is_alone(const Stop& s, size_t thread) const {
  if (program_.in_full || shared.buffers[thread].used != 0) return false;
  if (s.until == Until::woken) return shared.waits_for[thread] == nullptr;
  if (s.until == Until::alone) return true;
  return s.word != nullptr && owners_.is_own(s.word, thread) && may_go_on(s, thread);
}

void Explorer::start() {
  memset(static_cast<void*>(&shared), 0, sizeof shared);
  program_.construct();
  State first{};
  for (size_t t = 0; t < program_.threads.size(); ++t) {
    stops_[t].stack = fibers[t].prepare(fiber_entry);
    stops_[t].until = Until::alone;
    stops_[t].ways = 1;
    first[t] = keep_thread(t);
  }
  first[kMaxThreads] = keep_shared();
  add(first, {kNone, 0, 0});
}

Stop Explorer::stop_in(const State& state, size_t thread) const {
  Stop s;
  memcpy(&s, blocks_.at(state[thread]).data(), sizeof s);
  return s;
}

bool Explorer::may_go_on(const Stop& s, size_t thread) const {
  const uint64_t stores = shared.buffers[thread].used;
  switch (s.until) {
    case Until::alone:
    case Until::always:
      return true;
    case Until::drained:
      return stores == 0;
    case Until::room:
      return stores < kBufferedStores;
    case Until::woken:
      return program_.spurious_wakes || shared.waits_for[thread] == nullptr;
    case Until::equal:
      return stores == 0 && s.word->peek() == s.value;
    case Until::unequal:
      return stores == 0 && s.word->peek() != s.value;
    case Until::never:
      return false;
  }
  return false;
}

State Explorer::make(const State& from, const Move& move) {
  load_shared(from);
  State next = from;
  if (move.way == Move::kDrain) {
    drain(move.thread);
  } else {
    run_thread(from, move.thread, move.way);
    next[move.thread] = keep_thread(move.thread);
  }
  next[kMaxThreads] = keep_shared();
  return next;
}

void Explorer::run_thread(const State& from, size_t thread, unsigned way) {
  const std::string_view block = blocks_.at(from[thread]);
  memcpy(&stops_[thread], block.data(), sizeof(Stop));
  fibers[thread].put_back(block.substr(sizeof(Stop)));
  current_ = thread;
  way_ = way;
  in_thread_ = true;
  flexlom_model_switch(&main_stack_, stops_[thread].stack);
  in_thread_ = false;
}

void Explorer::drain(size_t thread) {
  Shared::Buffer& b = shared.buffers[thread];
  b.word[0]->poke(b.value[0]);
  if (explorer->saying()) {
    explorer->say(
        fmt::format("its store {} = {} becomes visible", explorer->name_of(b.word[0]), b.value[0]));
  }
  --b.used;
  for (unsigned i = 0; i < kBufferedStores; ++i) {
    const bool last = i + 1 == kBufferedStores;
    b.word[i] = last ? nullptr : b.word[i + 1];
    b.value[i] = last ? 0 : b.value[i + 1];
  }
}

bool Explorer::add(const State& state, const Move& move) {
  const auto [it, is_new] = numbers_.try_emplace(state, static_cast<uint32_t>(states_.size()));
  if (is_new) {
    states_.push_back(state);
    first_way_in_.push_back(move);
  }
  if (move.from != kNone) edges_.emplace_back(it->second, move.from);
  return is_new;
}

// The shared part of `state` is loaded.
bool Explorer::has_ended(const State& state) const {
  for (const Shared::Buffer& b : shared.buffers) {
    if (b.used != 0) return false;
  }
  for (size_t t = 0; t < program_.threads.size(); ++t) {
    if (program_.threads[t].required && stop_in(state, t).until != Until::never) return false;
  }
  return true;
}

// A state from which no end can be reached, if there is one.
void Explorer::find_stuck() {
  std::sort(edges_.begin(), edges_.end());
  std::vector<bool> can_end(states_.size());
  std::vector<uint32_t> to_see = ends_;
  for (const uint32_t end : ends_) can_end[end] = true;
  while (!to_see.empty()) {
    const uint32_t to = to_see.back();
    to_see.pop_back();
    for (auto e = std::lower_bound(edges_.begin(), edges_.end(), std::pair{to, uint32_t{0}});
         e != edges_.end() && e->first == to; ++e) {
      if (can_end[e->second]) continue;
      can_end[e->second] = true;
      to_see.push_back(e->second);
    }
  }
  const auto stuck = std::find(can_end.begin(), can_end.end(), false);
  if (stuck == can_end.end()) return;
  violate("from here the program cannot come to its end");
  tell(static_cast<uint32_t>(stuck - can_end.begin()), nullptr);
}

// Writes down the way to a state, and one move further.
void Explorer::tell(uint32_t last, const Move* beyond) {
  std::vector<Move> moves;
  if (beyond != nullptr) moves.push_back(*beyond);
  for (uint32_t at = last; first_way_in_[at].from != kNone; at = first_way_in_[at].from) {
    moves.push_back(first_way_in_[at]);
  }
  std::reverse(moves.begin(), moves.end());
  saying_ = true;
  for (const Move& move : moves) {
    said_.clear();
    make(states_[move.from], move);
    if (said_.empty()) continue;
    verdict_.interleaving.push_back(
        fmt::format("{:<10} {}", program_.threads[move.thread].name, said_));
  }
  saying_ = false;
  for (size_t t = 0; t < program_.threads.size(); ++t) {
    const Stop s = stop_in(states_[last], t);
    if (s.until == Until::never || !program_.threads[t].required || beyond != nullptr) continue;
    const char* what = s.until == Until::woken ? "waits to be woken" : "has not ended";
    verdict_.interleaving.push_back(fmt::format("{:<10} {}", program_.threads[t].name, what));
  }
}

// The shown value, from the thread's own store buffer when it is there.
uint32_t visible(const Word& word, size_t thread) {
  const Shared::Buffer& b = shared.buffers[thread];
  for (uint64_t i = b.used; i > 0; --i) {
    if (b.word[i - 1] == &word) return b.value[i - 1];
  }
  return word.peek();
}

template <class... Args>
void tell_word(const Word& word, const char* format, Args... args) {
  if (!explorer->saying()) return;
  explorer->say(explorer->name_of(&word) + fmt::format(fmt::runtime(format), args...));
}

}  // namespace

Verdict explore(const Program& program) {
  Owners owners;
  for (;;) {
    Explorer one(program, owners);
    explorer = &one;
    Verdict verdict = one.run();
    explorer = nullptr;
    if (!one.must_begin_anew()) return verdict;
  }
}

void* world() { return shared.world; }

std::string text_of(const Verdict& v) {
  std::string text = fmt::format("{} states, {} steps, {} ends{}\n", v.states, v.steps, v.ends,
                                 v.complete ? "" : ", not complete");
  if (!v.violation.empty()) text += "violation: " + v.violation + "\n";
  for (const std::string& line : v.interleaving) text += "  " + line + "\n";
  return text;
}

void step() { explorer->stop(Until::always); }
unsigned choose(unsigned n) { return n > 1 ? explorer->stop(Until::alone, nullptr, 0, n) : 0; }
void await(const Word& word, uint32_t value) { explorer->stop(Until::equal, &word, value); }
void fence() {
  if (shared.buffers[explorer->current()].used != 0) explorer->stop(Until::drained);
}
void fence_everywhere() {
  for (size_t t = 0; t < kMaxThreads; ++t) {
    if (t >= explorer->threads()) break;
    explorer->stop(Until::always);
    while (shared.buffers[t].used != 0) explorer->drain(t);
    if (explorer->saying()) explorer->say(fmt::format("fences {}", explorer->name_of_thread(t)));
  }
}
void await_not(const Word& word, uint32_t value) { explorer->stop(Until::unequal, &word, value); }
void say(const char* what) {
  if (explorer->saying()) explorer->say(what);
}
void violation(const char* what) { explorer->violate(what); }
void reach(unsigned bit) { explorer->reach(bit); }

uint64_t now_ns() {
  const unsigned ways = shared.now_ns < kMaxJumps * kJump_ns ? 2 : 1;
  if (choose(ways) == 1) {
    shared.now_ns += kJump_ns;
    say("looks at the clock: time has passed");
  } else {
    say("looks at the clock");
  }
  return shared.now_ns;
}
void forget_time() { shared.now_ns = 0; }

Word::Word(uint32_t value) : value_(value) { explorer->words.push_back(this); }
void Word::name(std::vector<std::string> names) { explorer->names = std::move(names); }

uint32_t Word::peek() const noexcept {
  explorer->use(this);
  return value_;
}
void Word::poke(uint32_t value) noexcept {
  explorer->use(this);
  value_ = value;
}

uint32_t Word::load(std::memory_order) const noexcept {
  explorer->stop(Until::always, this);
  const uint32_t value = visible(*this, explorer->current());
  tell_word(*this, " is {}", value);
  return value;
}

void Word::store(uint32_t value, std::memory_order order) noexcept {
  if (order == std::memory_order_seq_cst) {
    explorer->stop(Until::drained, this);
    value_ = value;
    tell_word(*this, " = {}", value);
    return;
  }
  explorer->stop(Until::room, this);
  Shared::Buffer& b = shared.buffers[explorer->current()];
  if (b.used == 0 && explorer->is_own(this)) {
    value_ = value;
    tell_word(*this, " = {}", value);
    return;
  }
  b.word[b.used] = this;
  b.value[b.used++] = value;
  tell_word(*this, " = {}, in its store buffer", value);
}

uint32_t Word::exchange(uint32_t value, std::memory_order) noexcept {
  explorer->stop(Until::drained, this);
  tell_word(*this, " was {}, = {}", value_, value);
  return std::exchange(value_, value);
}

uint32_t Word::fetch_add(uint32_t n, std::memory_order) noexcept {
  explorer->stop(Until::drained, this);
  value_ += n;
  tell_word(*this, " {:+d} -> {}", static_cast<int32_t>(n), value_);
  return value_ - n;
}

uint32_t Word::fetch_sub(uint32_t n, std::memory_order order) noexcept {
  return fetch_add(0 - n, order);
}

void Word::wait(uint32_t seen) const noexcept {
  explorer->stop(Until::drained, this);
  if (value_ != seen) return tell_word(*this, " is {}: no wait", value_);
  const size_t self = explorer->current();
  shared.waits_for[self] = this;
  tell_word(*this, " is {}: waits", value_);
  explorer->stop(Until::woken);
  say(shared.waits_for[self] == nullptr ? "is awake" : "wakes for no reason");
  shared.waits_for[self] = nullptr;
}

void Word::wake_all() const noexcept {
  explorer->stop(Until::drained, this);
  for (const Word*& word : shared.waits_for) {
    if (word == this) word = nullptr;
  }
  tell_word(*this, ": wakes all");
}

}  // namespace flexlom::model
