#include "interpose/guard/launches.h"

#include <catch2/catch.hpp>

#include "interpose/doors/originals.h"
#include "interpose/heat/range.h"
#include "tests/guard/stand_in.h"

using namespace flexlom;
using namespace flexlom::guard;
using doors::Entry;

namespace {

constexpr CUdeviceptr kBase = 0x5000'0000'0000;
const auto context = reinterpret_cast<CUcontext>(uintptr_t{0x10});
const auto other = reinterpret_cast<CUcontext>(uintptr_t{0x20});

uint64_t add(Launches& launches, CUcontext in, uint64_t stream, CUdeviceptr word = kBase,
             const void* function = nullptr) {
  heat::note_range(kBase, 1u << 30);
  heat::Named named;
  named.add(word);
  named.function = function;
  named.work = function != nullptr ? 64 : 0;
  return launches.add(Entry::cuLaunchKernel, named, {{1, 2, 3}, {4, 5, 6}}, in, stream, 7, 8);
}

std::vector<uint64_t> numbers(const std::vector<Launch>& all) {
  std::vector<uint64_t> found;
  for (const Launch& l : all) found.push_back(l.number);
  return found;
}

const char* kernel_name = "first";
CUresult name_of_function(const char** name, CUfunction) {
  *name = kernel_name;
  return CUDA_SUCCESS;
}

}  // namespace

TEST_CASE("what was waited for is not suspected any more") {
  Launches launches;
  for (int i = 0; i < 3; ++i) launches.entered(add(launches, context, 1));  // 1 to 3
  launches.entered(add(launches, context, 2));                              // 4
  launches.entered(add(launches, other, 1));                                // 5
  CHECK(numbers(launches.suspects(context)) == std::vector<uint64_t>{4, 3, 2, 1});
  launches.over(context, 1, 2);
  CHECK(numbers(launches.suspects(context)) == std::vector<uint64_t>{4, 3});
  launches.over(context, 4);
  CHECK(launches.suspects(context).empty());
  CHECK(numbers(launches.suspects(nullptr)) == std::vector<uint64_t>{5});
  CHECK(launches.suspects(nullptr, true).size() == 5);
  launches.over(5);
  CHECK(launches.suspects(nullptr).empty());
  // What is over stays over.
  launches.over(context, 1);
  CHECK(launches.suspects(context).empty());
}

TEST_CASE("nothing that has not entered the driver counts as seen by a synchronisation") {
  Launches launches;
  const uint64_t first = add(launches, context, 1), second = add(launches, context, 1);
  CHECK(launches.last() == 0);
  launches.entered(second);
  CHECK(launches.last() == 0);
  launches.entered(first);
  CHECK(launches.last() == 2);
  launches.refused(add(launches, context, 1));
  CHECK(launches.last() == 3);
  CHECK(numbers(launches.suspects(context)) == std::vector<uint64_t>{2, 1});
}

TEST_CASE("the ring keeps the latest") {
  Launches launches;
  for (size_t i = 0; i < Launches::kKept + 5; ++i) launches.entered(add(launches, context, 1));
  const auto found = launches.suspects(context);
  CHECK(found.size() == Launches::kKept);
  CHECK(found.front().number == Launches::kKept + 5);
  CHECK(found.back().number == 6);
}

TEST_CASE("a launch keeps its shape and each address once; a call has its own name") {
  Launches launches;
  heat::note_range(kBase, 1u << 30);
  heat::Named named;
  for (CUdeviceptr i = 0; i < 40; ++i) {
    named.add(kBase + 8 * i);
    named.add(kBase + 8 * i);
  }
  launches.add(Entry::cuMemsetD8_v2, named, {{1, 2, 3}, {4, 5, 6}}, context, 9, 7, 8);
  const Launch launch = launches.suspects(context).at(0);
  CHECK(*launch.name == "cuMemsetD8_v2");
  CHECK_FALSE(launch.kernel);
  CHECK(launch.count == Launch::kWords);
  CHECK(launch.more);
  CHECK(launch.words[1] == kBase + 8);
  CHECK(launch.shape.block[2] == 6);
  CHECK(launch.stream == 9);
}

TEST_CASE("the names of kernels are asked for once, and again when handles change") {
  doors::originals[doors::index_of(Entry::cuFuncGetName)] =
      reinterpret_cast<void*>(&name_of_function);
  Launches launches;
  int handle = 0;
  add(launches, context, 1, kBase, &handle);
  kernel_name = "second";
  add(launches, context, 1, kBase, &handle);
  CHECK(*launches.suspects(context).at(0).name == "first");
  ++testing::generation;
  add(launches, context, 1, kBase, &handle);
  CHECK(*launches.suspects(context).at(0).name == "second");
  CHECK(*launches.suspects(context).at(2).name == "first");
}
