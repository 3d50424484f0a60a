// Makes the processor forget what ran before, as the program between two calls of the driver does:
// interpreters and frameworks run some ten thousand instructions there.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace bench {

class Cold {
 public:
  Cold() : data_(kData) {
    void* code = mmap(nullptr, kCode, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (code == MAP_FAILED) fail();
    std::memset(code, 0xc3, kCode);  // return
    if (mprotect(code, kCode, PROT_READ | PROT_EXEC) != 0) fail();
    code_ = static_cast<unsigned char*>(code);
  }
  ~Cold() { munmap(code_, kCode); }
  Cold(const Cold&) = delete;
  Cold& operator=(const Cold&) = delete;

  // Other data and other code take the places in the first-level caches, in the tables of
  // translated addresses and in part of the second level.
  void chill() {
    uint64_t sum = 0;
    for (std::size_t at = 0; at < kData; at += kLine) sum += data_[at]++;
    sink_ = sum;
    // Not in the order of the addresses, which the processor would see through.
    for (std::size_t i = 0, at = 0; i < kCode / kLine; ++i, at = (at + 97 * kLine) % kCode)
      reinterpret_cast<void (*)()>(code_ + at)();
  }

 private:
  [[noreturn]] static void fail() {
    std::perror("pool_bench: memory for code");
    std::exit(1);
  }
  static constexpr std::size_t kLine = 64, kData = 768 * 1024, kCode = 256 * 1024;
  std::vector<unsigned char> data_;
  unsigned char* code_;
  volatile uint64_t sink_ = 0;
};

}  // namespace bench
