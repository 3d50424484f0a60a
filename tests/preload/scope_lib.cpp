// A library opened with RTLD_LOCAL that asks about names of its own; one of them looks like the
// driver's.
#include <dlfcn.h>

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT int scope_local_name() { return 7; }
EXPORT int cuScopeOnly() { return 8; }

// The results go through a volatile, so that no call becomes a jump and the caller stays this
// library.
EXPORT int scope_sees_itself() {
  void* volatile found = dlsym(RTLD_DEFAULT, "scope_local_name");
  return found == reinterpret_cast<void*>(&scope_local_name);
}
EXPORT int scope_next_is_none() {
  void* volatile found = dlsym(RTLD_NEXT, "scope_local_name");
  return found == nullptr;
}
EXPORT int scope_sees_own_driver_name() {
  void* volatile by_default = dlsym(RTLD_DEFAULT, "cuScopeOnly");
  void* volatile by_next = dlsym(RTLD_NEXT, "cuScopeOnly");
  return by_default == reinterpret_cast<void*>(&cuScopeOnly) && by_next == nullptr;
}
