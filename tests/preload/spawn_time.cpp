// How long /bin/true takes bare and with libflexlom.so in front, in turns. For information (make
// bench prints it); nothing is judged here, because a busy machine would.
//
//   spawn_time LIBRARY [RUNS]      prints one JSON object: medians in microseconds
#include <spawn.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace {

double now_us() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) * 1e6 + static_cast<double>(t.tv_nsec) / 1e3;
}

double spawn_us(char* const* environment) {
  char program[] = "/bin/true";
  char* arguments[] = {program, nullptr};
  const double start = now_us();
  pid_t child = 0;
  int status = -1;
  if (posix_spawn(&child, program, nullptr, nullptr, arguments, environment) != 0 ||
      waitpid(child, &status, 0) != child || status != 0) {
    std::fprintf(stderr, "cannot run %s\n", program);
    std::exit(1);
  }
  return now_us() - start;
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: spawn_time LIBRARY [RUNS]\n");
    return 2;
  }
  const int runs = argc > 2 ? std::atoi(argv[2]) : 300;
  std::string preload = std::string("LD_PRELOAD=") + argv[1];
  char* none[] = {nullptr};
  char* with[] = {preload.data(), nullptr};
  std::vector<double> bare, under;
  for (int i = 0; i < runs; ++i) {
    bare.push_back(spawn_us(none));
    under.push_back(spawn_us(with));
  }
  const double bare_us = median(bare), under_us = median(under);
  std::printf("{\"name\":\"bin_true\",\"bare_us\":%.0f,\"flexlom_us\":%.0f,\"added_us\":%.0f}\n",
              bare_us, under_us, under_us - bare_us);
  return 0;
}
