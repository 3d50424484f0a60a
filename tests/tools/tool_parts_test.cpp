// The launcher's and doctor's parts that can be asked directly.
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "interpose/tool/child.h"
#include "interpose/tool/output.h"
#include "interpose/tool/preload.h"
#include "interpose/tool/system_memory.h"
#include "interpose/tool/target.h"
#include "tests/tools/scratch.h"

using namespace flexlom;
using namespace flexlom::tool;

TEST_CASE("LD_PRELOAD: ours first, the user's kept, never twice, sanitizers before us") {
  const std::string ours = "/opt/lib/libflexlom.so";
  CHECK(preload_value("", ours, "") == ours);
  CHECK(preload_value("/a.so", ours, "") == ours + ":/a.so");
  CHECK(preload_value("/a.so /b.so::c.so", ours, "") == ours + ":/a.so:/b.so:c.so");
  CHECK(preload_value(ours, ours, "") == ours);
  CHECK(preload_value("/a.so:/old/libflexlom.so:/b.so", ours, "") == ours + ":/a.so:/b.so");
  CHECK(preload_value("/x/libasan.so.8:/a.so", ours, "") == "/x/libasan.so.8:" + ours + ":/a.so");
  CHECK(preload_value("/a.so", ours, "libasan.so.8") == "libasan.so.8:" + ours + ":/a.so");
  CHECK(preload_value("libasan.so.8", ours, "libasan.so.8") == "libasan.so.8:" + ours);
  CHECK(sanitizer_among({"libc.so.6", "libtsan.so.2"}) == "libtsan.so.2");
  CHECK(sanitizer_among({"libc.so.6"}).empty());
}

TEST_CASE("unknown variables are named with the nearest known one") {
  char a[] = "FLEXLOM_DEVICE_LIMITS=1G", b[] = "FLEXLOM_STATS=1", c[] = "FLEXLOM_BANANA=1",
       d[] = "PATH=/bin", e[] = "FLEXLOM_TRCAE=x";
  char* environment[] = {a, b, c, d, e, nullptr};
  auto unknown = unknown_variables(environment);
  REQUIRE(unknown.size() == 3);
  CHECK(unknown[0].nearest == "FLEXLOM_DEVICE_LIMIT");
  CHECK(unknown[1].name == "FLEXLOM_BANANA");
  CHECK(unknown[1].nearest.empty());
  CHECK(unknown[2].nearest == "FLEXLOM_TRACE");
}

TEST_CASE("programs are found as execvp finds them") {
  Scratch scratch;
  std::string script = scratch.write("bin/tool", "#!/bin/sh\n");
  scratch.write("bin/data", "x");
  CHECK(find_program(script).error == EACCES);
  REQUIRE(chmod(script.c_str(), 0755) == 0);
  CHECK(find_program(script).path == script);
  CHECK(find_program("sh").path.find("/sh") != std::string::npos);
  CHECK(find_program("no-such-program-here").error == ENOENT);
  CHECK(find_program("").path.empty());
  CHECK(find_program("/etc").error == EACCES);
}

TEST_CASE("targets: dynamic, script, damaged") {
  Scratch scratch;
  CHECK(inspect_target("/bin/ls").cannot_preload.empty());
  CHECK(inspect_target("/bin/ls").needed.size() >= 1);
  CHECK(inspect_target("/etc").cannot_start.find("directory") != std::string::npos);
  CHECK_FALSE(inspect_target(scratch / "absent").cannot_start.empty());

  auto executable = [&](const char* name, const std::string& text) {
    std::string path = scratch.write(name, text);
    REQUIRE(chmod(path.c_str(), 0755) == 0);
    return inspect_target(path);
  };
  CHECK(executable("a", "#!/bin/sh\nexit 0\n").cannot_start.empty());
  CHECK(executable("b", "#!/no/such/shell\n").cannot_start.find("interpreter") !=
        std::string::npos);
  CHECK(executable("c", "#! \n").cannot_start.find("first line") != std::string::npos);
  CHECK(executable("d", "#!/usr/bin/env -S A=1 ls -l\n").file.find("ls") != std::string::npos);
  CHECK(executable("e", "echo no first line\n").cannot_start.empty());
  CHECK(executable("loop", "#!" + (scratch / "loop") + "\n").cannot_start.find("interpreter") !=
        std::string::npos);
  CHECK(executable("short",
                   "\x7f"
                   "ELF\x02")
            .not_checked.find("complete") != std::string::npos);
  CHECK(executable("old", std::string("\x7f"
                                      "ELF\x01\x01\x01",
                                      7) +
                              std::string(60, '\0'))
            .cannot_preload.find("32-bit") != std::string::npos);

  // Whatever follows the magic number, reading it ends.
  std::string damaged = read_whole("/bin/ls").substr(0, 4096);
  for (size_t i = 16; i < 512; i++) {
    damaged[i] = '\xff';
    executable("damaged", damaged);
  }
}

TEST_CASE("memory of the machine and of control groups") {
  Scratch root;
  root.write("proc/meminfo", "MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable: 800 kB\n");
  std::string top = root / "";
  top.pop_back();
  SystemMemory memory = read_system_memory(top);
  CHECK(memory.total_bytes == 1000 * 1024);
  CHECK(memory.available_bytes == 800 * 1024);
  CHECK(memory.cgroup_version == 0);

  SECTION("version 2, the lowest limit on the way up counts") {
    root.write("proc/self/cgroup", "0::/a/b\n");
    root.write("sys/fs/cgroup/a/b/memory.max", "max\n");
    root.write("sys/fs/cgroup/a/memory.max", "500000\n");
    root.write("sys/fs/cgroup/a/memory.current", "100000\n");
    memory = read_system_memory(top);
    CHECK(memory.cgroup_version == 2);
    CHECK(memory.cgroup_limit_bytes == 500000);
    CHECK(memory.available_bytes == 400000);
  }
  SECTION("version 2 in a container that shows its own group as the root") {
    root.write("proc/self/cgroup", "0::/docker/123\n");
    root.write("sys/fs/cgroup/memory.max", "300000\n");
    root.write("sys/fs/cgroup/memory.current", "400000\n");
    memory = read_system_memory(top);
    CHECK(memory.cgroup_limit_bytes == 300000);
    CHECK(memory.available_bytes == 0);
  }
  SECTION("version 1") {
    root.write("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/x\n0::/\n");
    root.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    root.write("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "600000\n");
    root.write("sys/fs/cgroup/memory/x/memory.usage_in_bytes", "1\n");
    memory = read_system_memory(top);
    CHECK(memory.cgroup_version == 1);
    CHECK(memory.cgroup_limit_bytes == 600000);
  }
  SECTION("damage") {
    root.write("proc/self/cgroup", "::::\nnonsense\n0:\n");
    CHECK(read_system_memory(top).cgroup_limit_bytes == 0);
    CHECK(read_system_memory(root / "nowhere").total_bytes == 0);
  }
}

TEST_CASE("numbers and words for people") {
  CHECK(human_bytes(0) == "0 B");
  CHECK(human_bytes(1023) == "1023 B");
  CHECK(human_bytes(1536) == "1.5 KiB");
  CHECK(human_bytes(uint64_t{24} << 30) == "24 GiB");
  CHECK(human_bytes((1u << 20) - 1) == "1 MiB");
  CHECK(human_bytes(UINT64_MAX) == "16 EiB");
  CHECK(human_time(1'204'000'000) == "1.204 s");
  CHECK(human_time(61'000'000'000) == "1 min 01 s");
  CHECK(human_time(7'380'000'000'000) == "2 h 03 min");
  CHECK(driver_release(12080) == "12.8");
  CHECK(shell_quote("a b") == "'a b'");
  CHECK(shell_quote("it's") == "'it'\\''s'");
  CHECK(shell_quote("") == "''");
  CHECK(shell_quote("plain-1.0_x=/y") == "plain-1.0_x=/y");
  CHECK(printable("a\x1b[31m\nb\n") == "a [31m b");
  CHECK(edit_distance("stats", "stast") == 1);
  CHECK(edit_distance("", "abc") == 3);
  CHECK(edit_distance("trace", "trace") == 0);
}
