// Invariants: checked after every mutation in debug and sanitizer builds, absent in release builds.
#pragma once

#include <cstdio>
#include <cstdlib>

#ifdef FLEXLOM_CHECK
#define FLEXLOM_INVARIANT(expression)                                                        \
  do {                                                                                       \
    if (!(expression)) {                                                                     \
      std::fprintf(stderr, "flexlom: invariant broken: %s (%s:%d)\n", #expression, __FILE__, \
                   __LINE__);                                                                \
      std::abort();                                                                          \
    }                                                                                        \
  } while (false)
#else
#define FLEXLOM_INVARIANT(expression) static_cast<void>(0)
#endif
