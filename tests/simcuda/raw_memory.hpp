// Access to device memory. Never through libc or instrumented code: sanitizers have no shadow for
// device addresses, and what a program's kernels do to each other is not this driver's race.
#pragma once
#include <cstddef>
#include <cstdint>

#define SIM_RAW __attribute__((no_sanitize("thread", "address", "undefined")))

namespace flexlom::sim {

inline void raw_copy(void* to, const void* from, size_t bytes) {
  asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
}
inline void raw_set8(void* to, uint8_t value, size_t count) {
  asm volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(value) : "memory");
}
inline void raw_set16(void* to, uint16_t value, size_t count) {
  asm volatile("rep stosw" : "+D"(to), "+c"(count) : "a"(value) : "memory");
}
inline void raw_set32(void* to, uint32_t value, size_t count) {
  asm volatile("rep stosl" : "+D"(to), "+c"(count) : "a"(value) : "memory");
}
inline void raw_atomic_add(uint64_t* to, uint64_t amount) {
  asm volatile("lock xaddq %0, %1" : "+r"(amount), "+m"(*to) : : "memory");
}
inline uint32_t raw_load32(const void* from) {
  uint32_t value;
  asm volatile("movl (%1), %0" : "=r"(value) : "r"(from) : "memory");
  return value;
}
inline uint64_t raw_load64(const void* from) {
  uint64_t value;
  asm volatile("movq (%1), %0" : "=r"(value) : "r"(from) : "memory");
  return value;
}
inline void raw_store32(void* to, uint32_t value) {
  asm volatile("movl %0, (%1)" : : "r"(value), "r"(to) : "memory");
}
inline void raw_store64(void* to, uint64_t value) {
  asm volatile("movq %0, (%1)" : : "r"(value), "r"(to) : "memory");
}

}  // namespace flexlom::sim
