// Another library that replaces dlsym, in the way most do: a C function with a frame of its own,
// which finds the next dlsym with dlvsym.
#include <dlfcn.h>

#include <atomic>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {
std::atomic<int> calls{0};
}

EXPORT int dlsym_wrapper_calls() { return calls; }

EXPORT void* dlsym(void* handle, const char* name) {
  using Dlsym = void* (*)(void*, const char*);
  static const auto next = reinterpret_cast<Dlsym>(dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.2.5"));
  calls.fetch_add(1);
  void* volatile found = next(handle, name);
  return found;
}
