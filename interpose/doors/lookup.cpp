// dlsym for driver names: the real lookup first, then the door of the address it returned.
#include <dlfcn.h>
#include <link.h>

#include <cstdlib>

#include "interpose/doors/originals.h"

namespace flexlom::doors {

namespace {

// A library that asks for a name it defines itself is another interposer looking for what it wraps,
// and libcuda asks for its own names too: both must get what they asked for.
bool caller_wants_the_real_one(void* caller, const char* name) {
  Dl_info info;
  link_map* map = nullptr;
  if (dladdr1(caller, &info, reinterpret_cast<void**>(&map), RTLD_DL_LINKMAP) == 0 ||
      map == nullptr) {
    return false;
  }
  const Dlsym lookup = real_dlsym();
  // A handle of the caller's own, so that its search order starts with itself.
  void* self = dlopen(map->l_name[0] != '\0' ? map->l_name : nullptr, RTLD_LAZY | RTLD_NOLOAD);
  if (self == nullptr || map->l_name[0] == '\0') return false;
  void* mine = lookup(self, name);
  dlclose(self);
  Dl_info owner;
  return mine != nullptr && dladdr(mine, &owner) != 0 && owner.dli_fbase == info.dli_fbase;
}

}  // namespace

}  // namespace flexlom::doors

extern "C" {

__attribute__((visibility("hidden"))) flexlom::doors::Dlsym flexlom_real_dlsym = nullptr;

__attribute__((visibility("hidden"))) flexlom::doors::Dlsym flexlom_find_dlsym() {
  // RTLD_NEXT, not libc's handle: another library that wraps dlsym and comes after us stays in the
  // chain. dlvsym itself is never wrapped here.
  void* found = dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.34");
  if (found == nullptr) found = dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.2.5");
  if (found == nullptr) std::abort();  // no C library that this file was linked for lacks both
  const auto real = reinterpret_cast<flexlom::doors::Dlsym>(found);
  __atomic_store_n(&flexlom_real_dlsym, real, __ATOMIC_RELEASE);
  return real;
}

__attribute__((visibility("hidden"))) void* flexlom_lookup(void* handle, const char* name,
                                                           void* caller) {
  using namespace flexlom::doors;
  const Dlsym lookup = real_dlsym();
  const unsigned entry = entry_by_name(name);
  if (entry == kEntryCount) return lookup(handle, name);
  const bool wrapped = caller_wants_the_real_one(caller, name);
  find_originals();
  // Last, so that dlerror() afterwards speaks of this lookup.
  void* address = lookup(handle, name);
  if (address == nullptr || wrapped) return address;
  bool known = false;
  void* door = door_for_address(address, &known);
  if (!known && door_of[entry] != nullptr) {
    Dl_info info;
    // Our own export is what a handle of the whole program finds; anything else is a second driver.
    Dl_info ours;
    if (dladdr(address, &info) != 0 &&
        dladdr(reinterpret_cast<void*>(&flexlom_lookup), &ours) != 0 &&
        info.dli_fbase == ours.dli_fbase) {
      return address;
    }
    note_unknown_address(entry_info[entry].name);
  }
  return door;
}

}  // extern "C"

namespace flexlom::doors {

Dlsym real_dlsym() noexcept {
  const Dlsym known = __atomic_load_n(&flexlom_real_dlsym, __ATOMIC_ACQUIRE);
  return known != nullptr ? known : flexlom_find_dlsym();
}

}  // namespace flexlom::doors
