// RTLD_NEXT and RTLD_DEFAULT mean "as seen from the caller": a wrapper of dlsym that has a frame of
// its own breaks them. Ordinary functions, ordinary libraries; the answers are printed.
#include "tests/preload/check.hpp"

using namespace preload;

int main() {
  const auto plain = reinterpret_cast<const char* (*)()>(dlsym(RTLD_DEFAULT, "plain_name"));
  CHECK(plain != nullptr);
  if (plain != nullptr) std::printf("plain_name: %s\n", plain());
  // The next printf after the program is libc's; so is the next after that of anything before it.
  CHECK(std::strncmp(object_of(dlsym(RTLD_NEXT, "printf")), "libc", 4) == 0);
  CHECK(dlsym(RTLD_NEXT, "main") == nullptr);
  // A library opened locally sees its own names through RTLD_DEFAULT, the program does not.
  void* library = dlopen(std::getenv("PRELOAD_SCOPE"), RTLD_NOW | RTLD_LOCAL);
  CHECK(library != nullptr);
  if (library == nullptr) return 1;
  CHECK(dlsym(RTLD_DEFAULT, "scope_local_name") == nullptr);
  const auto sees_itself = look_up<int (*)()>(library, "scope_sees_itself");
  CHECK(sees_itself() == 1);
  const auto next_is_other = look_up<int (*)()>(library, "scope_next_is_none");
  CHECK(next_is_other() == 1);
  const auto driver_name = look_up<int (*)()>(library, "scope_sees_own_driver_name");
  CHECK(driver_name() == 1);
  return verdict();
}
