// GCC 12 sees uninitialised members in std::regex, which Catch uses, when it instruments for ASan.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#define CATCH_CONFIG_RUNNER
#define CATCH_CONFIG_EXTERNAL_INTERFACES
#include "tests/simcuda/testing.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>

extern char** environ;

namespace testing {

Session::Session() {
  REQUIRE_OK(cuInit(0));
  REQUIRE_OK(cuDevicePrimaryCtxRetain(&context, 0));
  REQUIRE_OK(cuCtxSetCurrent(context));
  REQUIRE_OK(cuModuleLoadData(&module, "any image"));
}

Session::~Session() {
  simcuda_fault("");
  cuCtxSetCurrent(context);
  CHECK_OK(cuModuleUnload(module));
  CHECK_OK(cuDevicePrimaryCtxRelease(0));
  cuCtxSetCurrent(nullptr);
  CHECK(simcuda_device_bytes(0) == 0);
  CHECK(simcuda_live_handles() == 0);
}

CUfunction Session::function(const char* name) const {
  CUfunction found = nullptr;
  REQUIRE_OK(cuModuleGetFunction(&found, module, name));
  return found;
}

Hold::Hold(const Session& session, CUstream stream) {
  memset(flag.address, 0, 64);
  REQUIRE_OK(launch(session.function("flex_spin_until"), stream,
                    static_cast<uint32_t*>(flag.address), uint32_t{1}));
}

int run_self(const std::string& test, const std::vector<std::string>& environment) {
  std::vector<std::string> variables = environment;
  for (char** v = environ; *v; ++v) {
    const std::string name = std::string(*v).substr(0, std::string(*v).find('=') + 1);
    bool replaced = false;
    for (const std::string& given : environment) replaced = replaced || given.rfind(name, 0) == 0;
    if (!replaced) variables.push_back(*v);
  }
  std::vector<char*> env;
  for (std::string& v : variables) env.push_back(v.data());
  env.push_back(nullptr);
  std::string name = test;
  char program[] = "/proc/self/exe";
  char* arguments[] = {program, name.data(), nullptr};
  // Quiet: some of these crash on purpose. To look at one, run this program with its tag.
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, 1, 2);
  pid_t child = 0;
  const int spawned = posix_spawn(&child, program, &actions, nullptr, arguments, env.data());
  posix_spawn_file_actions_destroy(&actions);
  REQUIRE(spawned == 0);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

CUmemAllocationProp device_memory(int device) {
  CUmemAllocationProp properties{};
  properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.location = {CU_MEM_LOCATION_TYPE_DEVICE, device};
  return properties;
}

CUmemAccessDesc read_write(int device) {
  return {{CU_MEM_LOCATION_TYPE_DEVICE, device}, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
}

}  // namespace testing

namespace {
size_t passed = 0, failed = 0;

struct Totals : Catch::TestEventListenerBase {
  using TestEventListenerBase::TestEventListenerBase;
  void testRunEnded(const Catch::TestRunStats& stats) override {
    passed = stats.totals.testCases.passed;
    failed = stats.totals.testCases.failed;
  }
};
CATCH_REGISTER_LISTENER(Totals)

}  // namespace

int main(int argc, char** argv) {
  setenv("SIMCUDA_DEVICES", "2", 0);
  setenv("SIMCUDA_MEMORY", "64M", 0);
  const int status = Catch::Session().run(argc, argv);
  // The line that the test runner adds up.
  printf("%zu passed, %zu failed, 0 skipped\n", passed, failed);
  return status;
}
