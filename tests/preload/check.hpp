// What the programs of this room share. Each looks at one behaviour and runs twice: bare, and with
// libflexlom.so in front of it. Standard output must be the same both times; what is only true
// under flexlom is checked inside `if (under_flexlom())`. Exit 0 when all checks held, else 1.
#pragma once

#include <dlfcn.h>
#include <link.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace preload {

inline int failures = 0;

#define CHECK(condition)                                                                  \
  do {                                                                                    \
    if (!(condition)) {                                                                   \
      ++preload::failures;                                                                \
      std::fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition); \
    }                                                                                     \
  } while (0)

#define CHECK_OK(call)                                                                     \
  do {                                                                                     \
    if (const int code_ = static_cast<int>(call); code_ != 0) {                            \
      ++preload::failures;                                                                 \
      std::fprintf(stderr, "%s:%d: %s gave error %d\n", __FILE__, __LINE__, #call, code_); \
    }                                                                                      \
  } while (0)

inline int verdict() { return failures == 0 ? 0 : 1; }

// The file name, without folders, of the object that holds an address.
inline const char* object_of(const void* address) {
  Dl_info info;
  if (address == nullptr || dladdr(address, &info) == 0 || info.dli_fname == nullptr) return "";
  const char* slash = std::strrchr(info.dli_fname, '/');
  return slash != nullptr ? slash + 1 : info.dli_fname;
}

inline bool in_flexlom(const void* address) {
  return std::strcmp(object_of(address), "libflexlom.so") == 0;
}
inline bool in_driver(const void* address) {
  return std::strcmp(object_of(address), "libcuda.so.1") == 0;
}

// Asked of the loader's list, so that no dl* call is made whose behaviour is under test.
inline bool under_flexlom() {
  static const bool answer =
      dl_iterate_phdr([](dl_phdr_info* info, size_t,
                         void*) { return std::strstr(info->dlpi_name, "libflexlom.so") ? 1 : 0; },
                      nullptr) != 0;
  return answer;
}

// A call of the driver's by name, through the program's own dlsym.
template <class F>
F look_up(void* handle, const char* name) {
  void* found = dlsym(handle, name);
  if (found == nullptr) {
    std::fprintf(stderr, "no %s: %s\n", name, dlerror());
    std::exit(1);
  }
  return reinterpret_cast<F>(found);
}

inline void* open_driver(int flags = RTLD_NOW | RTLD_LOCAL) {
  void* handle = dlopen("libcuda.so.1", flags);
  if (handle == nullptr) {
    std::fprintf(stderr, "cannot load the driver: %s\n", dlerror());
    std::exit(1);
  }
  return handle;
}

}  // namespace preload
