#include "interpose/tool/locate.h"

#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

namespace flexlom::tool {
namespace {

std::string resolved(const std::string& path) {
  char real[PATH_MAX];
  return realpath(path.c_str(), real) != nullptr ? real : "";
}

}  // namespace

std::string own_executable() {
  char path[PATH_MAX];
  ssize_t length = readlink("/proc/self/exe", path, sizeof path);
  return length > 0 ? std::string(path, static_cast<size_t>(length)) : "";
}

std::string find_library(std::string* looked_in) {
  std::string directory = own_executable();
  directory.resize(directory.empty() ? 0 : directory.rfind('/'));
  // Never the working directory: whoever can write there could have his code preloaded.
  for (const char* place : {"", "/../lib", "/../../lib", "/../../lib64"}) {
    std::string candidate = directory + place + "/libflexlom.so";
    if (looked_in != nullptr) *looked_in += (looked_in->empty() ? "" : ", ") + candidate;
    std::string real = directory.empty() ? "" : resolved(candidate);
    if (!real.empty() && access(real.c_str(), R_OK) == 0) return real;
  }
  return "";
}

}  // namespace flexlom::tool
