// A stack to run on, whose whole state is the bytes from its stack pointer to its end.
//
// The C library's contexts keep registers elsewhere and make a system call per switch; here all
// that a stopped thread needs lies on its stack, so that copying the stack away and back is enough.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace flexlom::model {

// Stores the caller's stack pointer and goes on where `to` was stored.
extern "C" void flexlom_model_switch(void** from, void* to);

class Fiber {
 public:
  static constexpr size_t kStackBytes = 64 << 10;  // formatting what is said takes the most

  // The stack of one that will begin in `entry`, which never returns.
  void* prepare(void (*entry)()) {
    memset(stack_, 0, sizeof stack_);
    // What the switch pops: six registers and the address to go to. At the entry of a function the
    // stack is eight bytes off the alignment of 16, as after a call.
    auto** top = reinterpret_cast<void**>(end() - 8);
    *--top = reinterpret_cast<void*>(entry);
    return top - 6;
  }
  std::string_view bytes_from(void* stack) const {
    const char* from = static_cast<const char*>(stack);
    return {from, static_cast<size_t>(end() - from)};
  }
  void put_back(std::string_view bytes) {
    memcpy(end() - bytes.size(), bytes.data(), bytes.size());
  }

 private:
  char* end() { return stack_ + sizeof stack_; }
  const char* end() const { return stack_ + sizeof stack_; }

  alignas(64) char stack_[kStackBytes];
};

}  // namespace flexlom::model
