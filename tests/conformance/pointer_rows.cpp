// cuPointerGetAttribute: every attribute of every kind of pointer a program can hold.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "tests/conformance/pointer_kinds.hpp"

namespace flexlom::conformance {
namespace {

struct Attribute {
  CUpointer_attribute id;
  const char* name;
};

constexpr Attribute kAttributes[] = {
    {CU_POINTER_ATTRIBUTE_CONTEXT, "context"},
    {CU_POINTER_ATTRIBUTE_MEMORY_TYPE, "memory_type"},
    {CU_POINTER_ATTRIBUTE_DEVICE_POINTER, "device_pointer"},
    {CU_POINTER_ATTRIBUTE_HOST_POINTER, "host_pointer"},
    {CU_POINTER_ATTRIBUTE_P2P_TOKENS, "p2p_tokens"},
    {CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, "sync_memops"},
    {CU_POINTER_ATTRIBUTE_BUFFER_ID, "buffer_id"},
    {CU_POINTER_ATTRIBUTE_IS_MANAGED, "is_managed"},
    {CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, "device_ordinal"},
    {CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE, "ipc_capable"},
    {CU_POINTER_ATTRIBUTE_RANGE_START_ADDR, "range_start"},
    {CU_POINTER_ATTRIBUTE_RANGE_SIZE, "range_size"},
    {CU_POINTER_ATTRIBUTE_MAPPED, "mapped"},
    {CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES, "allowed_handle_types"},
    {CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE, "rdma_capable"},
    {CU_POINTER_ATTRIBUTE_ACCESS_FLAGS, "access_flags"},
    {CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE, "mempool_handle"},
    {CU_POINTER_ATTRIBUTE_MAPPING_SIZE, "mapping_size"},
    {CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR, "mapping_base"},
    {CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID, "memory_block_id"},
    {CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE, "hw_decompress"},
    {static_cast<CUpointer_attribute>(0), "number_0"},
    {static_cast<CUpointer_attribute>(22), "number_22"},
    {static_cast<CUpointer_attribute>(1000), "number_1000"},
};

struct Raw {
  alignas(16) unsigned char bytes[64];
  template <typename T>
  T as() const {
    T value;
    std::memcpy(&value, bytes, sizeof value);
    return value;
  }
};

// How many leading bytes the driver wrote: asked twice over different fillings.
int bytes_written(CUpointer_attribute id, CUdeviceptr p) {
  Raw a;
  Raw b;
  std::memset(a.bytes, 0x5a, sizeof a.bytes);
  std::memset(b.bytes, 0xa5, sizeof b.bytes);
  CU(cuPointerGetAttribute)(a.bytes, id, p);
  CU(cuPointerGetAttribute)(b.bytes, id, p);
  int last = 0;
  for (int i = 0; i < 64; ++i) {
    if (a.bytes[i] != 0x5a || b.bytes[i] != 0xa5) {
      last = i + 1;
    }
  }
  return last;
}

std::string value_text(CUpointer_attribute id, const Raw& raw, const PointerKind& kind) {
  switch (id) {
    case CU_POINTER_ATTRIBUTE_CONTEXT:
      return context_name(raw.as<CUcontext>());
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
    case CU_POINTER_ATTRIBUTE_HOST_POINTER:
      if (raw.as<CUdeviceptr>() == kind.p) {
        return "itself";
      }
      return relation(raw.as<CUdeviceptr>(), kind.base, kind.bytes);
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
      return relation(raw.as<CUdeviceptr>(), kind.base, kind.bytes);
    // Where in its mapping a small object lies is the allocator's business.
    case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
      return raw.as<CUdeviceptr>() <= kind.base ? "at or below base" : "above base";
    case CU_POINTER_ATTRIBUTE_MAPPING_SIZE: {
      const size_t size = raw.as<size_t>();
      return size >= kind.bytes
                 ? fmt::format("covers, multiple of {}", size % (2 * kMiB) == 0 ? "2MiB" : "less")
                 : "too small";
    }
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
      return reported_size(raw.as<size_t>(), kind.bytes);
    case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
      return fmt::format("{}", raw.as<uint64_t>());
    case CU_POINTER_ATTRIBUTE_BUFFER_ID:
    case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
      return raw.as<uint64_t>() == 0 ? "zero" : "not zero";
    case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
      return pool_name(raw.as<CUmemoryPool>(), kind);
    case CU_POINTER_ATTRIBUTE_P2P_TOKENS:
      return "tokens";
    case CU_POINTER_ATTRIBUTE_IS_MANAGED:
    case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
    case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
    case CU_POINTER_ATTRIBUTE_MAPPED:
    case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
    case CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE:
      return raw.bytes[0] == 0 ? "no" : "yes";
    default:
      return fmt::format("{}", raw.as<int>());
  }
}

std::string one_attribute(CUpointer_attribute id, const PointerKind& kind) {
  Raw raw;
  std::memset(raw.bytes, 0x5a, sizeof raw.bytes);
  const CUresult result = CU(cuPointerGetAttribute)(raw.bytes, id, kind.p);
  // Tokens and identities hold arbitrary bytes: their length cannot be seen from outside.
  const bool length_known = id != CU_POINTER_ATTRIBUTE_P2P_TOKENS;
  const int written = length_known ? bytes_written(id, kind.p) : 0;
  std::string text = result_name(result);
  if (written != 0 || result == CUDA_SUCCESS) {
    text += fmt::format(" {}", value_text(id, raw, kind));
    text += length_known ? fmt::format(" ({} bytes)", written) : "";
  }
  return text;
}

CONFORMANCE_GROUP(pointer_attributes, 120) {
  Gpu gpu;
  for (const PointerKind& kind : make_pointer_kinds()) {
    for (const Attribute& attribute : kAttributes) {
      row(fmt::format("{}.{}", kind.name, attribute.name),
          [&] { return one_attribute(attribute.id, kind); });
    }
  }
}

// The same questions from a thread that has no current context.
CONFORMANCE_GROUP(pointer_no_context, 120) {
  Gpu gpu;
  const std::vector<PointerKind> kinds = make_pointer_kinds();
  CUcontext popped = nullptr;
  must(CU(cuCtxPopCurrent)(&popped), "cuCtxPopCurrent");
  for (const PointerKind& kind : kinds) {
    for (const Attribute& attribute : kAttributes) {
      row(fmt::format("{}.{}", kind.name, attribute.name),
          [&] { return one_attribute(attribute.id, kind); });
    }
  }
}

// Identities: equal within one allocation, different between two, never reused.
CONFORMANCE_GROUP(pointer_identity, 60) {
  Gpu gpu;
  const auto id_of = [](CUpointer_attribute which, CUdeviceptr p) {
    uint64_t id = 0;
    must(CU(cuPointerGetAttribute)(&id, which, p), "cuPointerGetAttribute");
    return id;
  };
  for (uint64_t bytes : {uint64_t{4096}, 3 * kMiB}) {
    const std::string size = size_name(bytes);
    CUdeviceptr p = 0;
    CUdeviceptr q = 0;
    must(CU(cuMemAlloc)(&p, bytes), "cuMemAlloc");
    must(CU(cuMemAlloc)(&q, bytes), "cuMemAlloc");
    const CUpointer_attribute buffer_id = CU_POINTER_ATTRIBUTE_BUFFER_ID;
    const uint64_t id = id_of(buffer_id, p);
    say(size + "_interior", id == id_of(buffer_id, p + 100) ? "same" : "other");
    say(size + "_neighbour", id == id_of(buffer_id, q) ? "same" : "other");
    must(CU(cuMemFree)(p), "cuMemFree");
    must(CU(cuMemAlloc)(&p, bytes), "cuMemAlloc");
    say(size + "_after_free", id == id_of(buffer_id, p) ? "same" : "other");
  }
}

CONFORMANCE_GROUP(pointer_bad, 60) {
  Gpu gpu;
  CUdeviceptr p = 0;
  must(CU(cuMemAlloc)(&p, 3 * kMiB), "cuMemAlloc");
  for (const Attribute& attribute : kAttributes) {
    row(fmt::format("null_data.{}", attribute.name),
        [&] { return CU(cuPointerGetAttribute)(nullptr, attribute.id, p); });
  }
}

}  // namespace
}  // namespace flexlom::conformance
