#include "interpose/tool/symbols.h"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <fstream>

#include "interpose/tool/elf_file.h"
#include "interpose/tool/perf_map.h"
#include "interpose/tool/suppressions.h"
#include "tests/tools/scratch.h"

using namespace flexlom;
using namespace flexlom::tool;

namespace {

std::string own_bytes() {
  std::ifstream file("/proc/self/exe", std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

// Found by its name below.
extern "C" __attribute__((noinline, visibility("default"))) int symbols_test_here() { return 42; }

TEST_CASE("patterns of suppressions match as LeakSanitizer's do") {
  CHECK(matches_pattern("load", "weights::load(int)"));
  CHECK(matches_pattern("", "anything"));
  CHECK(matches_pattern("*", ""));
  CHECK_FALSE(matches_pattern("loads", "weights::load(int)"));
  CHECK(matches_pattern("^weights", "weights::load"));
  CHECK_FALSE(matches_pattern("^load", "weights::load"));
  CHECK(matches_pattern("load$", "weights::load"));
  CHECK_FALSE(matches_pattern("weights$", "weights::load"));
  CHECK(matches_pattern("^main$", "main"));
  CHECK_FALSE(matches_pattern("^main$", "main2"));
  CHECK_FALSE(matches_pattern("^main$", "domain"));
  CHECK(matches_pattern("we*::*ad", "weights::load"));
  CHECK(matches_pattern("^w*d$", "weights::load"));
  CHECK_FALSE(matches_pattern("^w*x*d$", "weights::load"));
  CHECK_FALSE(matches_pattern("ad*ad", "load"));
  CHECK_FALSE(matches_pattern("ad*ad$", "load"));
}

TEST_CASE("functions of an ELF file are found by address") {
  const auto file = ElfFile::open("/proc/self/exe");
  REQUIRE(file != nullptr);
  CHECK(file->build_id().size() == 40);
  // Where the program lies is a whole number of pages, so that the end of addresses is the same.
  extern const char base[] __asm__("__ehdr_start");
  const auto address = reinterpret_cast<uintptr_t>(&symbols_test_here);
  CHECK(file->function_at(address - reinterpret_cast<uintptr_t>(base)) == "symbols_test_here");
  CHECK(file->function_at(1).empty());
  CHECK(file->function_at(UINT64_MAX).empty());
}

TEST_CASE("damaged ELF files are read to where they make sense") {
  Scratch scratch;
  std::string bytes = own_bytes();
  REQUIRE(bytes.size() > 4096);
  scratch.write("empty", "");
  CHECK(ElfFile::open(scratch / "empty") == nullptr);
  scratch.write("text", "no such file");
  CHECK(ElfFile::open(scratch / "text") == nullptr);
  CHECK(ElfFile::open(scratch / "absent") == nullptr);
  CHECK(ElfFile::open("/dev/zero") == nullptr);
  for (const size_t size : {64u, 100u, 4096u}) {
    scratch.write("cut", bytes.substr(0, size));
    if (const auto file = ElfFile::open(scratch / "cut")) CHECK(file->function_at(4096).empty());
  }
  // Every byte of the header, and of the table of sections, in turn.
  bytes = bytes.substr(0, 64) + bytes.substr(64, 4032) + bytes.substr(bytes.size() - 2560);
  for (size_t at = 16; at < 64; at++) {
    for (const char value : {'\0', '\xff', '\x7f'}) {
      std::string damaged = bytes;
      damaged[at] = value;
      scratch.write("damaged", damaged);
      const auto file = ElfFile::open(scratch / "damaged");
      if (file != nullptr) CHECK(file->function_at(0x5000).size() < damaged.size());
    }
  }
}

TEST_CASE("a perf map names Python's functions and others") {
  Scratch scratch;
  scratch.write("map",
                "7f0000001000 b py::train:/src/train.py\n"
                "0x7f0000002000 10 jitted code with spaces\n"
                "not a line\n"
                "7f0000003000 0 py::empty:/src/a.py\n"
                "7f0000004000 ffffffffffffffff wraps\n"
                "7f0000001100 b py::<module>:/src/with:colon.py\n"
                "7f00");
  PerfMap map;
  std::string error;
  REQUIRE(map.read(scratch / "map", &error));
  CHECK(map.size() == 3);
  const PerfMap::Function* train = map.find(0x7f000000100a);
  REQUIRE(train != nullptr);
  CHECK(train->label.function == "train");
  CHECK(train->label.file == "/src/train.py");
  CHECK(train->python);
  CHECK(map.find(0x7f000000100b) == nullptr);
  REQUIRE(map.find(0x7f0000002000) != nullptr);
  CHECK(map.find(0x7f0000002000)->label.function == "jitted code with spaces");
  CHECK_FALSE(map.find(0x7f0000002000)->python);
  REQUIRE(map.find(0x7f0000001100) != nullptr);
  CHECK(map.find(0x7f0000001100)->label.file == "/src/with:colon.py");
  CHECK(map.find(0) == nullptr);
  CHECK_FALSE(PerfMap().read(scratch / "absent", &error));
  CHECK_FALSE(PerfMap().read("/dev/zero", &error));
  CHECK(error == "/dev/zero: not a regular file");
}
