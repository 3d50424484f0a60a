#include "interpose/trace/path_template.h"

#include <limits.h>
#include <time.h>
#include <unistd.h>

namespace flexlom::trace {
namespace {

std::string host_name() {
  char name[HOST_NAME_MAX + 1] = "";
  if (gethostname(name, sizeof name) != 0 || name[0] == '\0') return "localhost";
  name[HOST_NAME_MAX] = '\0';
  return name;
}

std::string executable_name() {
  char path[PATH_MAX];
  ssize_t length = readlink("/proc/self/exe", path, sizeof path);
  if (length <= 0) return "unknown";
  std::string_view name(path, static_cast<size_t>(length));
  name.remove_prefix(name.rfind('/') + 1);
  constexpr std::string_view deleted = " (deleted)";  // the kernel's mark of a replaced file
  if (name.size() > deleted.size() && name.substr(name.size() - deleted.size()) == deleted)
    name.remove_suffix(deleted.size());
  return std::string(name);
}

std::string local_time() {
  time_t now = time(nullptr);
  tm parts{};
  localtime_r(&now, &parts);
  char text[32];
  return std::string(text, strftime(text, sizeof text, "%Y%m%d-%H%M%S", &parts));
}

}  // namespace

std::optional<std::string> expand_path_template(std::string_view text,
                                                const char* (*get)(const char*),
                                                std::string* error) {
  auto fail = [error](std::string message) {
    if (error != nullptr) *error = std::move(message);
    return std::nullopt;
  };
  std::string path;
  for (size_t i = 0; i < text.size(); i++) {
    if (text[i] != '%') {
      path += text[i];
      continue;
    }
    if (++i == text.size()) return fail("a single % at the end (write %% for a percent sign)");
    switch (text[i]) {
      case '%':
        path += '%';
        break;
      case 'p':
        path += std::to_string(getpid());
        break;
      case 'h':
        path += host_name();
        break;
      case 'e':
        path += executable_name();
        break;
      case 't':
        path += local_time();
        break;
      case 'q': {
        size_t close = text.find('}', i);
        if (i + 1 >= text.size() || text[i + 1] != '{' || close == std::string_view::npos)
          return fail("%q needs a variable in braces: %q{VAR}");
        std::string variable(text.substr(i + 2, close - i - 2));
        const char* value = variable.empty() ? nullptr : get(variable.c_str());
        if (value == nullptr) return fail("%q{" + variable + "}: that variable is not set");
        path += value;
        i = close;
        break;
      }
      default:
        return fail(std::string("%") + text[i] + " is not known (%p %h %e %t %q{VAR} %%)");
    }
  }
  if (path.empty()) return fail("an empty path");
  return path;
}

}  // namespace flexlom::trace
