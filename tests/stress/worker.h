// One thread of the stress program: random allocations, each filled with a pattern of its own by a
// kernel, checked by another one, and freed, often while work on it is still queued.
//
// Memory that is handed out again before its last work is done shows as a wrong word: the new owner's
// pattern under the old owner's check, or the other way round.
#pragma once

#include <atomic>
#include <mutex>
#include <string>
#include <vector>

#include "tests/stress/driver.h"
#include "tests/stress/segment.h"

namespace stress {

struct Options {
  uint64_t seed = 0;
  unsigned threads = 4;
  double seconds = 10;
  uint64_t iterations = ~uint64_t{0};   // of each thread
  size_t bytes_per_thread = 24u << 20;  // what a thread tries to hold
  bool captures = true;
  bool contexts = true;
  bool moves = false;  // large blocks, used again and again: pages change places all the time
};

struct Block {
  CUdeviceptr address = 0;
  size_t bytes = 0;
  uint32_t seed = 0;
  CUstream stream = nullptr;  // all work on the block is ordered on it
  bool async = false;         // allocated in stream order
};

// What all threads share.
struct Shared {
  explicit Shared(const Options& o) : options(o) {}

  const Options options;
  CUcontext context = nullptr;
  CUmemoryPool pool = nullptr;
  Kernels kernels;
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> iterations{0}, allocated{0}, refused{0}, checks{0}, wrong{0}, captures{0}, contexts{0};
  std::atomic<uint64_t> asked_bytes{0}, asked_peak_bytes{0}, host_peak_bytes{0};
  // Addresses that were freed: nobody may use them, anybody may ask about them.
  std::atomic<CUdeviceptr> stale[64]{};
  // A capture may not meet a context-wide synchronisation: whoever does the one excludes the other.
  std::atomic<int> capturing{0};
  std::mutex capture_mutex;  // guards the change of `capturing` from and to 0, held by who synchronises
  std::mutex mail_mutex;
  std::vector<Block> mail;  // guarded by mail_mutex: blocks for another thread to take over or free
};

class Worker {
 public:
  Worker(Shared& shared, unsigned index);
  void run();

 private:
  // One verdict word of device memory per check, and what was checked.
  struct Check {
    Block block;
    uint64_t iteration;
    const char* how;
  };
  static constexpr unsigned kVerdicts = 256;

  void step();
  void step_moving();
  const Block& random_block() { return blocks_[random_.below(static_cast<uint32_t>(blocks_.size()))]; }
  size_t random_size();
  CUstream random_stream();
  void allocate();
  void cut_arena();
  void use_piece();
  void cut_segment();
  void use_segment();
  void fill(Block& block);
  void check(const Block& block, const char* how);
  void release(Block block, bool other_thread);
  void copy_between();
  void compare_on_host();
  void post();
  void receive();
  void short_stream();
  void capture();
  void other_context();
  void note_host_bytes();
  void ask();
  void settle();
  void complain(const Check& check, uint64_t words);
  Block take_random();
  bool any() const { return !blocks_.empty(); }
  void maybe_delay(CUstream stream);

  Shared& shared_;
  const unsigned index_;
  Random random_;
  std::vector<CUstream> streams_;
  std::vector<Block> blocks_;
  CUdeviceptr arena_ = 0;      // where pages move: one allocation
  std::vector<Block> pieces_;  // that these are cut out of
  Segment segment_;            // and what the thread maps itself,
  std::vector<Block> cells_;   // cut into these
  size_t held_bytes_ = 0;
  CUdeviceptr verdicts_ = 0;
  std::vector<Check> checks_;
  uint64_t iteration_ = 0;
};

}  // namespace stress
