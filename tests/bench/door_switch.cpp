// Preloaded before libflexlom.so: lets a program pass the doors of launches, or go past them, at
// will.
//
// The runtime library gets its launch calls from cuGetProcAddress; here it is given a jump to an
// address that can change, the door's or the driver's own. That tells what the doors cost in a real
// program with the least noise: within one process, from one step to the next. Only where memory is
// enough: what goes past the doors is not seen, so nothing may have to move.
#include <cuda.h>
#include <dlfcn.h>

#include <atomic>
#include <cstring>

#include "tests/bench/elf_symbol.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

using GetProcAddress = CUresult (*)(const char*, void**, int, cuuint64_t,
                                    CUdriverProcAddressQueryResult*);

constexpr const char* kNames[] = {"cuLaunchKernel", "cuLaunchKernelEx"};
constexpr unsigned kCount = sizeof kNames / sizeof *kNames;
void* door[kCount];
std::atomic<GetProcAddress> next_get{nullptr};

}  // namespace

extern "C" {
__attribute__((visibility("hidden"))) void* door_switch_target[kCount];
__attribute__((visibility("hidden"))) void door_switch_jump_0();
__attribute__((visibility("hidden"))) void door_switch_jump_1();
}
asm(R"(
        .text
        .p2align 6
door_switch_jump_0:
        endbr64
        jmp *door_switch_target(%rip)
        .p2align 6
door_switch_jump_1:
        endbr64
        jmp *door_switch_target+8(%rip)
)");

namespace {

void (*const kJumps[kCount])() = {&door_switch_jump_0, &door_switch_jump_1};

CUresult get(const char* name, void** address, int version, cuuint64_t flags,
             CUdriverProcAddressQueryResult* status) {
  const CUresult r = next_get.load()(name, address, version, flags, status);
  if (r != CUDA_SUCCESS || address == nullptr || *address == nullptr) return r;
  if (std::strcmp(name, "cuGetProcAddress") == 0 && version >= 12000) {
    next_get = reinterpret_cast<GetProcAddress>(*address);
    *address = reinterpret_cast<void*>(&get);
  }
  if ((flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM) != 0) return r;
  for (unsigned i = 0; i < kCount; ++i) {
    if (std::strcmp(name, kNames[i]) != 0) continue;
    door[i] = door_switch_target[i] = *address;
    *address = reinterpret_cast<void*>(kJumps[i]);
  }
  return r;
}

}  // namespace

// Of the launches: how many different calls the program was given. `past`: the driver's own from
// now on, else the doors. Negative: the driver's own are not to be found.
EXPORT int door_switch(int past) {
  int found = 0;
  void* library = past != 0 ? dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD) : nullptr;
  for (unsigned i = 0; i < kCount; ++i) {
    if (door[i] == nullptr) continue;
    void* own = past != 0 && library != nullptr ? bench::own_symbol(library, kNames[i]) : door[i];
    if (own == nullptr || (past != 0 && own == door[i])) return -1;
    door_switch_target[i] = own;
    ++found;
  }
  return found;
}

EXPORT void* dlsym(void* handle, const char* name) {
  using Dlsym = void* (*)(void*, const char*);
  static const auto next = reinterpret_cast<Dlsym>(dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.34"));
  if (std::strcmp(name, "cuGetProcAddress_v2") != 0) return next(handle, name);
  void* address = next(handle, name);
  if (address == nullptr) return nullptr;
  next_get = reinterpret_cast<GetProcAddress>(address);
  return reinterpret_cast<void*>(&get);
}
