// Runs a handful of threads through every interleaving of their steps.
//
// The threads are real compiled code on small stacks of their own. Each stops before every
// operation that others can see (an atomic word, a call of the driver), and the explorer decides
// who goes on. A state is the bytes of all stacks and of the memory the threads share, so it can be
// stored, compared and returned to: every state is visited once, loops that wait end by themselves,
// and nothing is bounded. Breadth first, so the interleaving shown for a violation is a shortest
// one.
//
// Found are: a violation() reported by a thread, a state from which the program can no longer come
// to its end (nobody can go on, or only in circles), and an end that is wrong. Coming to the end
// assumes fairness: what can happen again and again happens some time, a timeout included.
//
// Memory is that of x86-64: stores weaker than sequentially consistent wait in the thread's store
// buffer, which only its own loads see, until it drains at any later moment.
//
// The bodies must be deterministic, own no memory outside of their stack across a step, and hold no
// pointers into another stack. One exploration at a time.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace flexlom::model {

class Word;

inline constexpr unsigned kMaxThreads = 7;
inline constexpr size_t kMaxWorldBytes = 2048;

struct Thread {
  std::string name;
  std::function<void()> body;
  bool required = true;  // the program's end does not wait for the others
};

struct Program {
  // Makes what the threads share, which must be good to copy, at world(). Called once; nothing is
  // ever destroyed.
  std::function<void()> construct;
  size_t world_bytes = kMaxWorldBytes;
  std::vector<Thread> threads;
  // Asked when all required threads have ended: null, or what is wrong.
  std::function<const char*()> wrong_at_end = nullptr;
  // A wait may also return without being woken. Off: a lost wake is a thread that hangs.
  bool spurious_wakes = true;
  // Also mixes steps that concern only the thread that takes them with those of others, to show
  // that leaving that out changes nothing.
  bool in_full = false;
  size_t max_states = 6'000'000;
};

struct Verdict {
  size_t states = 0;
  size_t steps = 0;
  size_t memories = 0;                    // how many different contents what the threads share has
  size_t ends = 0;                        // in how many different memories the program can end
  uint64_t reached = 0;                   // bits of reach()
  bool complete = false;                  // every state was visited
  std::string violation;                  // empty: none
  std::vector<std::string> interleaving;  // that leads to it, one line per step

  bool holds() const { return complete && violation.empty(); }
};

Verdict explore(const Program& program);
// Aligned to a cache line, the same place in every exploration.
void* world();
// As a person reads it.
std::string text_of(const Verdict& verdict);

// What follows is for the bodies of threads.

// Others may run before what comes next.
void step();
// One of `n` ways to go on, all explored.
unsigned choose(unsigned n);
// Goes on when `word` is, or is not, `value`; what comes next is the same step.
void await(const Word& word, uint32_t value);
void await_not(const Word& word, uint32_t value);
// A full fence, as std::atomic_thread_fence(seq_cst).
void fence();
// A full fence of every thread, each at some moment before this returns, as membarrier(2) makes.
void fence_everywhere();
// What the current step did, for the interleaving: says nothing while it is not shown.
void say(const char* what);
void violation(const char* what);
void reach(unsigned bit);

// The clock stands still or makes a jump whenever it is read, at most two in all, so a timeout of
// at most a jump strikes at any moment. forget_time(): nobody remembers a time from before.
inline constexpr uint64_t kJump_ns = 1000;
uint64_t now_ns();
void forget_time();

// An atomic word. Every operation of a thread is a step; made outside of threads it is none.
class Word {
 public:
  Word(uint32_t value = 0);  // NOLINT: made from a number as std::atomic is
  Word(const Word&) = delete;
  Word& operator=(const Word&) = delete;
  // Names the words in the order in which they were made, for the interleaving.
  static void name(std::vector<std::string> names);

  uint32_t load(std::memory_order) const noexcept;
  void store(uint32_t value, std::memory_order order) noexcept;
  uint32_t exchange(uint32_t value, std::memory_order) noexcept;
  uint32_t fetch_add(uint32_t n, std::memory_order) noexcept;
  uint32_t fetch_sub(uint32_t n, std::memory_order) noexcept;
  // A futex: returns at once when the word is not `seen`, else when woken.
  void wait(uint32_t seen) const noexcept;
  void wake_all() const noexcept;

  // Not steps, for checks and for what only one step at a time can touch.
  uint32_t peek() const noexcept;
  void poke(uint32_t value) noexcept;

 private:
  uint32_t value_;
};

}  // namespace flexlom::model
