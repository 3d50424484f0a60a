// The conformance suite: asks a CUDA driver hundreds of questions, prints `group.row<TAB>answer`.
//
// The process that lists and starts groups never calls CUDA; every group runs in a child with a
// time limit, so that a crash or a hang is one answer (`group.end<TAB>crash: signal 11`).
#include <sys/wait.h>
#include <unistd.h>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "tests/conformance/driver.hpp"
#include "tests/conformance/report.hpp"

namespace flexlom::conformance {
namespace {

constexpr int kSkipped = 77;

int usage(FILE* out, int status) {
  std::fputs(
      "usage: conformance [--list] [--group PREFIX]... [--capacity BYTES]\n"
      "  --list             print the names of the groups\n"
      "  --group PREFIX     run only groups whose name begins so; may be repeated\n"
      "  --print-capacity   print how much device memory the rows would use, then stop\n"
      "  --capacity BYTES   use that much; give it to runs that are to be compared\n"
      "The driver is libcuda.so.1 as the loader finds it. Exit status 77: no driver or device.\n",
      out);
  return status;
}

// Rows of one group, in this process.
int run_group(const Group& group) {
  // The limit holds even when the parent is gone.
  alarm(static_cast<unsigned>(group.limit_seconds) + 5);
  try {
    group.body();
  } catch (const GroupOver& over) {
    say("over", over.reason);
  } catch (const MissingEntry& missing) {
    say("over", "missing: " + missing.name);
  }
  return 0;
}

// Starts this program again with the given words; returns the wait status, or -1 at the time limit.
int run_self(std::vector<std::string> words, int limit_seconds) {
  words.insert(words.begin(), "conformance");
  std::vector<char*> argv;
  for (std::string& word : words) {
    argv.push_back(word.data());
  }
  argv.push_back(nullptr);
  const pid_t pid = fork();
  if (pid == 0) {
    execv("/proc/self/exe", argv.data());
    _exit(127);
  }
  for (int waited_ms = 0;; waited_ms += 5) {
    int status = 0;
    if (waitpid(pid, &status, WNOHANG) == pid) {
      return status;
    }
    if (waited_ms > limit_seconds * 1000) {
      kill(pid, SIGKILL);
      waitpid(pid, &status, 0);
      return -1;
    }
    usleep(5000);
  }
}

std::string end_of(int status) {
  if (status == -1) {
    return "time limit";
  }
  if (WIFSIGNALED(status)) {
    return fmt::format("crash: signal {}", WTERMSIG(status));
  }
  return fmt::format("exit {}", WEXITSTATUS(status));
}

// A share of the device's memory that leaves room for contexts and neighbours: 6 GiB of a big GPU,
// else the power of two at or below a quarter.
int print_capacity() {
  CUdevice device = 0;
  size_t total = 0;
  const CUresult init = CU(cuInit)(0);
  if (init != CUDA_SUCCESS || CU(cuDeviceGet)(&device, 0) != CUDA_SUCCESS ||
      CU(cuDeviceTotalMem)(&total, device) != CUDA_SUCCESS) {
    std::fprintf(stderr, "conformance: no CUDA device (cuInit: %s)\n", result_name(init).c_str());
    return kSkipped;
  }
  uint64_t capacity = kMiB;
  while (capacity * 2 <= total / 4) {
    capacity *= 2;
  }
  std::printf("%llu\n", static_cast<unsigned long long>(total >= 24 * kGiB ? 6 * kGiB : capacity));
  return 0;
}

uint64_t ask_capacity() {
  RunningHelper probe({"capacity"});
  const std::string line = probe.read_line();
  return probe.wait() == "exit 0" ? std::strtoull(line.c_str(), nullptr, 10) : 0;
}

bool chosen(const Group& group, const std::vector<std::string>& prefixes) {
  for (const std::string& prefix : prefixes) {
    if (std::strncmp(group.name, prefix.c_str(), prefix.size()) == 0) {
      return true;
    }
  }
  return prefixes.empty();
}

int run_all(const std::vector<std::string>& prefixes) {
  int chosen_groups = 0;
  for (const Group* group : groups()) {
    if (!chosen(*group, prefixes)) {
      continue;
    }
    ++chosen_groups;
    const std::string capacity = fmt::format("--capacity={}", capacity_bytes());
    const int status = run_self({capacity, "--run", group->name}, group->limit_seconds);
    std::printf("%s.end\t%s\n", group->name, end_of(status).c_str());
    std::fflush(stdout);
  }
  if (chosen_groups == 0) {
    std::fprintf(stderr, "conformance: no group of that name; --list shows them\n");
    return 2;
  }
  return 0;
}

int run_one(const char* name) {
  setenv("FLEX_CONFORMANCE_GROUP", name, 1);
  for (const Group* group : groups()) {
    if (std::strcmp(group->name, name) == 0) {
      return run_group(*group);
    }
  }
  return 2;
}

int run_helper(const std::vector<std::string>& words) {
  alarm(120);
  const Helper* const helper = words.empty() ? nullptr : find_helper(words[0]);
  if (helper == nullptr) {
    return 2;
  }
  try {
    return helper->body({words.begin() + 1, words.end()});
  } catch (const GroupOver& over) {
    std::printf("%s\n", over.reason.c_str());
  } catch (const MissingEntry& missing) {
    std::printf("missing: %s\n", missing.name.c_str());
  }
  return 3;
}

CONFORMANCE_HELPER(capacity) { return print_capacity(); }

int run(const std::vector<std::string>& words) {
  std::vector<std::string> prefixes;
  bool only_capacity = false;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    const bool last = i + 1 == words.size();
    if (word == "--list") {
      for (const Group* group : groups()) {
        std::printf("%s\n", group->name);
      }
      return 0;
    }
    if (word == "--help") {
      return usage(stdout, 0);
    }
    if (word == "--print-capacity") {
      only_capacity = true;
    } else if (word.rfind("--capacity=", 0) == 0) {
      set_capacity_bytes(std::strtoull(word.c_str() + 11, nullptr, 10));
    } else if (word == "--capacity" && !last) {
      set_capacity_bytes(std::strtoull(words[++i].c_str(), nullptr, 10));
    } else if (word == "--group" && !last) {
      prefixes.push_back(words[++i]);
    } else if (word == "--run" && !last) {
      return run_one(words[i + 1].c_str());
    } else if (word == "--helper" && !last) {
      return run_helper({words.begin() + static_cast<std::ptrdiff_t>(i) + 1, words.end()});
    } else {
      return usage(stderr, 2);
    }
  }
  const std::string problem = driver_problem();
  if (!problem.empty()) {
    std::fprintf(stderr, "conformance: skipped, %s\n", problem.c_str());
    return kSkipped;
  }
  if (capacity_bytes() == 0) {
    set_capacity_bytes(ask_capacity());
  }
  if (capacity_bytes() == 0) {
    std::fprintf(stderr, "conformance: skipped, no CUDA device\n");
    return kSkipped;
  }
  if (only_capacity) {
    std::printf("%llu\n", static_cast<unsigned long long>(capacity_bytes()));
    return 0;
  }
  return run_all(prefixes);
}

}  // namespace
}  // namespace flexlom::conformance

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  // A kernel that is loaded at its first launch would load beside stuck streams and open captures.
  setenv("CUDA_MODULE_LOADING", "EAGER", 1);
  return flexlom::conformance::run({argv + 1, argv + argc});
}
