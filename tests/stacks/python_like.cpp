// Calls through code made at run time as CPython's perf trampolines do, and says in a perf map what
// that code stands for. Its name makes it an interpreter to the tool.
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/preload/session.hpp"

using namespace preload;

namespace {

const Cuda* cuda = nullptr;
using Evaluate = void (*)(void*, void*, int);
using Trampoline = void (*)(void*, void*, int, Evaluate);
Trampoline trampolines[2];

__attribute__((noinline)) void evaluate_inner(void*, void*, int) {
  CUdeviceptr p = 0;
  CHECK_OK(cuda->cuMemAlloc_v2_(&p, 3 << 20));
  asm volatile("" : : : "memory");
}

__attribute__((noinline)) void evaluate_outer(void*, void*, int) {
  trampolines[1](nullptr, nullptr, 0, &evaluate_inner);
  asm volatile("" : : : "memory");
}

}  // namespace

int main() {
  const Cuda calls(open_driver());
  cuda = &calls;
  calls.start();
  // sub $8,%rsp; call *%rcx; add $8,%rsp; ret
  constexpr unsigned char kCode[] = {0x48, 0x83, 0xec, 8, 0xff, 0xd1, 0x48, 0x83, 0xc4, 8, 0xc3};
  void* memory = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(memory != MAP_FAILED);
  char path[64];
  snprintf(path, sizeof path, "/tmp/perf-%d.map", static_cast<int>(getpid()));
  FILE* map = fopen(path, "w");
  CHECK(map != nullptr);
  const char* const names[] = {"py::train:/src/train.py", "py::Model.forward:/src/model.py"};
  for (int i = 0; i < 2; ++i) {
    char* code = static_cast<char*>(memory) + 64 * i;
    memcpy(code, kCode, sizeof kCode);
    trampolines[i] = reinterpret_cast<Trampoline>(code);
    fprintf(map, "%lx %zx %s\n", reinterpret_cast<unsigned long>(code), sizeof kCode, names[i]);
  }
  fclose(map);
  CHECK(mprotect(memory, 4096, PROT_READ | PROT_EXEC) == 0);
  trampolines[0](nullptr, nullptr, 0, &evaluate_outer);
  return verdict();
}
