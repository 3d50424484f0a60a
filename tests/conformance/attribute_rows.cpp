// cuPointerGetAttributes (lists) and cuPointerSetAttribute.
#include <cstring>

#include "tests/conformance/pointer_kinds.hpp"

namespace flexlom::conformance {
namespace {

struct Answers {
  CUcontext context = reinterpret_cast<CUcontext>(0x77);
  unsigned memory_type = 0x77;
  CUdeviceptr device_pointer = 0x77;
  CUdeviceptr range_start = 0x77;
  size_t range_size = 0x77;
  unsigned managed = 0x77;
  int ordinal = 0x77;
  unsigned mapped = 0x77;
  CUmemoryPool pool = reinterpret_cast<CUmemoryPool>(0x77);
};

std::string list_answer(const PointerKind& kind) {
  Answers answers;
  CUpointer_attribute ids[] = {
      CU_POINTER_ATTRIBUTE_CONTEXT,        CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
      CU_POINTER_ATTRIBUTE_DEVICE_POINTER, CU_POINTER_ATTRIBUTE_RANGE_START_ADDR,
      CU_POINTER_ATTRIBUTE_RANGE_SIZE,     CU_POINTER_ATTRIBUTE_IS_MANAGED,
      CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, CU_POINTER_ATTRIBUTE_MAPPED,
      CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE};
  void* data[] = {&answers.context,     &answers.memory_type, &answers.device_pointer,
                  &answers.range_start, &answers.range_size,  &answers.managed,
                  &answers.ordinal,     &answers.mapped,      &answers.pool};
  const CUresult result = CU(cuPointerGetAttributes)(9, ids, data, kind.p);
  const std::string pointer = answers.device_pointer == kind.p
                                  ? "itself"
                                  : relation(answers.device_pointer, kind.base, kind.bytes);
  const bool asked = answers.context != Answers{}.context;
  return fmt::format(
      "{}: context {}, type {}, pointer {}, start {}, size {}, managed {}, "
      "device {}, mapped {}, pool {}",
      result_name(result), asked ? context_name(answers.context) : "unset", answers.memory_type,
      pointer,
      answers.range_start == Answers{}.range_start
          ? "untouched"
          : relation(answers.range_start, kind.base, kind.bytes),
      answers.range_size == Answers{}.range_size ? "untouched"
                                                 : reported_size(answers.range_size, kind.bytes),
      answers.managed & 0xff, answers.ordinal, answers.mapped & 0xff,
      pool_name(answers.pool, kind));
}

CONFORMANCE_GROUP(attributes_list, 60) {
  Gpu gpu;
  for (const PointerKind& kind : make_pointer_kinds()) {
    row(kind.name, [&] { return list_answer(kind); });
  }
}

// The two that transformers and NCCL ask first, in the lists in which cudart asks them.
CONFORMANCE_GROUP(attributes_pairs, 60) {
  Gpu gpu;
  for (const PointerKind& kind : make_pointer_kinds()) {
    row(kind.name, [&] {
      unsigned type = 99;
      CUdeviceptr host = 99;
      CUpointer_attribute ids[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
                                   CU_POINTER_ATTRIBUTE_HOST_POINTER};
      void* data[] = {&type, &host};
      const CUresult result = CU(cuPointerGetAttributes)(2, ids, data, kind.p);
      return fmt::format("{} type {}, host pointer {}", result_name(result), type,
                         host == kind.p ? "itself" : relation(host, kind.base, kind.bytes));
    });
  }
}

CONFORMANCE_GROUP(attributes_bad, 60) {
  Gpu gpu;
  const CUdeviceptr p = allocate(1000);
  unsigned type = 99;
  int managed = 99;
  CUpointer_attribute ids[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE, CU_POINTER_ATTRIBUTE_IS_MANAGED};
  void* data[] = {&type, &managed};
  row("none", [&] { return CU(cuPointerGetAttributes)(0, ids, data, p); });
  row("null_ids", [&] { return CU(cuPointerGetAttributes)(2, nullptr, data, p); });
  row("null_data", [&] { return CU(cuPointerGetAttributes)(2, ids, nullptr, p); });
  row("unknown_id_in_list", [&] {
    CUpointer_attribute bad[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
                                 static_cast<CUpointer_attribute>(1000)};
    type = 99;
    const CUresult result = CU(cuPointerGetAttributes)(2, bad, data, p);
    return fmt::format("{} type {}", result_name(result), type);
  });
  row("same_id_twice", [&] {
    CUpointer_attribute twice[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
                                   CU_POINTER_ATTRIBUTE_MEMORY_TYPE};
    unsigned second = 99;
    void* both[] = {&type, &second};
    const CUresult result = CU(cuPointerGetAttributes)(2, twice, both, p);
    return fmt::format("{} {} {}", result_name(result), type, second);
  });
}

CONFORMANCE_GROUP(attributes_set, 60) {
  Gpu gpu;
  for (const PointerKind& kind : make_pointer_kinds()) {
    row(kind.name + ".sync_memops", [&] {
      std::string text;
      for (unsigned wanted : {1u, 0u}) {
        const CUresult set =
            CU(cuPointerSetAttribute)(&wanted, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, kind.p);
        unsigned seen = 9;
        CU(cuPointerGetAttribute)(&seen, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, kind.p);
        text += fmt::format("{}set {} {} seen {}", wanted == 1 ? "" : ", ", wanted,
                            result_name(set), seen & 0xff);
      }
      return text;
    });
  }
  const CUdeviceptr p = allocate(1000);
  for (int id = 0; id <= 22; ++id) {
    if (id == CU_POINTER_ATTRIBUTE_SYNC_MEMOPS) {
      continue;
    }
    row(fmt::format("attribute_{}", id), [&] {
      uint64_t value[2] = {1, 1};
      return CU(cuPointerSetAttribute)(value, static_cast<CUpointer_attribute>(id), p);
    });
  }
}

}  // namespace
}  // namespace flexlom::conformance
