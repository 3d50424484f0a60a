// What a state of the explorer is made of, and what it knows of the program on the way.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tests/model/explorer.h"
#include "tests/model/fiber.h"

namespace flexlom::model {

inline constexpr unsigned kBufferedStores = 2;
inline constexpr uint64_t kMaxJumps = 2;

// What all threads can see, and what of a thread others change: one block of bytes. Always at the
// same place, since stacks point into it.
struct Shared {
  struct Buffer {
    Word* word[kBufferedStores];
    uint32_t value[kBufferedStores];
    uint64_t used;
  };
  Buffer buffers[kMaxThreads];
  const Word* waits_for[kMaxThreads];  // cleared by the wake
  uint64_t now_ns;
  alignas(64) char world[kMaxWorldBytes];
};
inline Shared shared;
inline Fiber fibers[kMaxThreads];

// Where a thread has stopped, and what must be so for it to go on. `alone`: nothing, and what it
// does next concerns nobody else.
enum class Until : uint32_t { alone, always, drained, room, woken, equal, unequal, never };
struct Stop {
  void* stack;
  const Word* word;  // that it uses next, if it is one
  Until until;
  uint32_t value;
  uint64_t ways;
};

// Blocks of bytes, each kept once.
class Blocks {
 public:
  uint32_t keep(std::string_view bytes) {
    auto it = numbers_.find(bytes);
    if (it == numbers_.end()) {
      it = numbers_.emplace(bytes, static_cast<uint32_t>(blocks_.size())).first;
      blocks_.push_back(it->first);
    }
    return it->second;
  }
  std::string_view at(uint32_t number) const { return blocks_[number]; }
  size_t size() const { return blocks_.size(); }

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view s) const { return std::hash<std::string_view>()(s); }
  };
  std::unordered_map<std::string, uint32_t, Hash, std::equal_to<>> numbers_;
  std::vector<std::string_view> blocks_;  // of the keys, which stay where they are
};

// The numbers of the threads' blocks, then of the shared one.
using State = std::array<uint32_t, kMaxThreads + 1>;
struct StateHash {
  size_t operator()(const State& state) const {
    uint64_t h = 0;
    for (const uint32_t n : state) {
      h = (h ^ n) * 0x9e3779b97f4a7c15u;
      h ^= h >> 29;
    }
    return h;
  }
};

// A thread goes on in one of its ways, or its oldest buffered store reaches memory.
struct Move {
  static constexpr uint16_t kDrain = UINT16_MAX;
  uint32_t from;
  uint16_t thread;
  uint16_t way;
};

// Which thread uses a word. What only one uses concerns nobody else, and the steps on it need not
// be mixed with those of others. That is found out on the way: when a second thread comes to a word
// that was taken for somebody's own, all begins anew, knowing better.
class Owners {
 public:
  // Whether it was taken for another's own.
  bool use(const Word* word, size_t thread) {
    uint8_t& owner = owner_[index_of(word)];
    const auto mine = static_cast<uint8_t>(thread + 1);
    if (owner == kMany || owner == mine) return false;
    const bool was_taken = owner != 0;
    owner = was_taken ? kMany : mine;
    return was_taken;
  }
  bool is_own(const Word* word, size_t thread) const {
    return owner_[index_of(word)] == thread + 1;
  }

 private:
  static constexpr uint8_t kMany = UINT8_MAX;
  static size_t index_of(const Word* word) {
    return static_cast<size_t>(reinterpret_cast<const char*>(word) - shared.world) / sizeof(Word);
  }
  uint8_t owner_[kMaxWorldBytes / sizeof(Word)] = {};
};

}  // namespace flexlom::model
