// A program that never uses CUDA, and says what is open in it: descriptors, threads, and mapped
// files other than its libraries.
#include <dirent.h>

#include <set>
#include <string>

#include "tests/preload/check.hpp"

int main() {
  int descriptors = 0, threads = 0;
  for (const char* folder : {"/proc/self/fd", "/proc/self/task"}) {
    DIR* dir = opendir(folder);
    CHECK(dir != nullptr);
    if (dir == nullptr) return 1;
    while (const dirent* entry = readdir(dir)) {
      if (entry->d_name[0] == '.') continue;
      ++(std::strstr(folder, "fd") != nullptr ? descriptors : threads);
    }
    closedir(dir);
  }
  std::set<std::string> files;
  std::FILE* maps = std::fopen("/proc/self/maps", "r");
  CHECK(maps != nullptr);
  if (maps == nullptr) return 1;
  char line[4096];
  while (std::fgets(line, sizeof line, maps) != nullptr) {
    const char* path = std::strchr(line, '/');
    if (path != nullptr && std::strstr(path, "libflexlom.so") == nullptr) files.insert(path);
  }
  std::fclose(maps);
  std::printf("%d descriptors, %d threads\n", descriptors, threads);
  for (const std::string& file : files) std::printf("%s", file.c_str());
  CHECK(threads == 1);
  return preload::verdict();
}
