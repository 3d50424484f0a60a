// Memory pools: the default one, the program's own, their attributes, access and export.
#include <unistd.h>
#include <cstring>

#include "tests/conformance/driver.hpp"

namespace flexlom::conformance {
namespace {

struct PoolAttribute {
  CUmemPool_attribute id;
  const char* name;
  bool wide;
};

constexpr PoolAttribute kPoolAttributes[] = {
    {CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES, "follow_event_dependencies", false},
    {CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC, "allow_opportunistic", false},
    {CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES, "allow_internal_dependencies", false},
    {CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, "release_threshold", true},
    {CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, "reserved_current", true},
    {CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH, "reserved_high", true},
    {CU_MEMPOOL_ATTR_USED_MEM_CURRENT, "used_current", true},
    {CU_MEMPOOL_ATTR_USED_MEM_HIGH, "used_high", true},
    {static_cast<CUmemPool_attribute>(0), "number_0", true},
    {static_cast<CUmemPool_attribute>(99), "number_99", true},
};

CUmemoryPool default_pool() {
  CUmemoryPool pool = nullptr;
  must(CU(cuDeviceGetDefaultMemPool)(&pool, 0), "cuDeviceGetDefaultMemPool");
  return pool;
}

CUmemPoolProps device_props(CUmemAllocationHandleType handles = CU_MEM_HANDLE_TYPE_NONE) {
  CUmemPoolProps props = {};
  props.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
  props.handleTypes = handles;
  props.location = device_location(0);
  return props;
}

CUmemoryPool make_pool(CUmemAllocationHandleType handles = CU_MEM_HANDLE_TYPE_NONE) {
  const CUmemPoolProps props = device_props(handles);
  CUmemoryPool pool = nullptr;
  must(CU(cuMemPoolCreate)(&pool, &props), "cuMemPoolCreate");
  return pool;
}

uint64_t pool_value(CUmemoryPool pool, CUmemPool_attribute id) {
  uint64_t value = 0;
  must(CU(cuMemPoolGetAttribute)(pool, id, &value), "cuMemPoolGetAttribute");
  return value;
}

// Reserved memory is whole driver pages: only its relation to the used memory is compared.
std::string pool_numbers(CUmemoryPool pool) {
  const uint64_t used = pool_value(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT);
  const uint64_t used_high = pool_value(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH);
  const uint64_t reserved = pool_value(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT);
  const uint64_t reserved_high = pool_value(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH);
  return fmt::format("used {} high {}, reserved {} in {} pages, high {}", used, used_high,
                     reserved == 0      ? "nothing"
                     : reserved >= used ? "enough"
                                        : "too little",
                     reserved % (2 * kMiB) == 0 ? "whole" : "broken",
                     reserved_high >= reserved ? "in order" : "below current");
}

void attribute_rows(const std::string& name, CUmemoryPool pool) {
  for (const PoolAttribute& attribute : kPoolAttributes) {
    row(name + "." + attribute.name, [&] {
      uint64_t value = 0;
      const CUresult result = CU(cuMemPoolGetAttribute)(pool, attribute.id, &value);
      return result_and(result, fmt::format("{}", value));
    });
    row(name + "." + attribute.name + "_set_7", [&] {
      uint64_t value = 7;
      const CUresult set = CU(cuMemPoolSetAttribute)(pool, attribute.id, &value);
      value = 0;
      CU(cuMemPoolGetAttribute)(pool, attribute.id, &value);
      return fmt::format("{} seen {}", result_name(set), value);
    });
    row(name + "." + attribute.name + "_set_0", [&] {
      uint64_t value = 0;
      const CUresult set = CU(cuMemPoolSetAttribute)(pool, attribute.id, &value);
      value = 9;
      CU(cuMemPoolGetAttribute)(pool, attribute.id, &value);
      return fmt::format("{} seen {}", result_name(set), attribute.wide ? value : value & 0xff);
    });
  }
}

CONFORMANCE_GROUP(pool_handles, 60) {
  Gpu gpu;
  CUmemoryPool standard = nullptr;
  CUmemoryPool pool = nullptr;
  const auto same = [&](CUresult result) {
    return result_and(result, pool == standard ? "default" : pool == nullptr ? "null" : "other");
  };
  row("default", [&] { return CU(cuDeviceGetDefaultMemPool)(&standard, 0); });
  row("default_not_null", std::string(standard == nullptr ? "no" : "yes"));
  row("default_again", [&] { return same(CU(cuDeviceGetDefaultMemPool)(&pool, 0)); });
  row("current", [&] { return same(CU(cuDeviceGetMemPool)(&pool, 0)); });
  row("default_bad_device", [&] { return CU(cuDeviceGetDefaultMemPool)(&pool, 99); });
  row("current_bad_device", [&] { return CU(cuDeviceGetMemPool)(&pool, 99); });
  row("default_null_out", [&] { return CU(cuDeviceGetDefaultMemPool)(nullptr, 0); });
  row("current_null_out", [&] { return CU(cuDeviceGetMemPool)(nullptr, 0); });
  CUmemLocation here = device_location(0);
  row("by_location", [&] {
    return same(CU(cuMemGetDefaultMemPool)(&pool, &here, CU_MEM_ALLOCATION_TYPE_PINNED));
  });
  row("current_by_location",
      [&] { return same(CU(cuMemGetMemPool)(&pool, &here, CU_MEM_ALLOCATION_TYPE_PINNED)); });
  row("set_null", [&] { return CU(cuDeviceSetMemPool)(0, nullptr); });
  row("set_default", [&] { return CU(cuDeviceSetMemPool)(0, standard); });
  row("set_bad_device", [&] { return CU(cuDeviceSetMemPool)(99, standard); });
  row("destroy_default", [&] { return CU(cuMemPoolDestroy)(standard); });
}

CONFORMANCE_GROUP(pool_attributes, 60) {
  Gpu gpu;
  attribute_rows("default", default_pool());
  attribute_rows("own", make_pool());
}

CONFORMANCE_GROUP(pool_usage, 60) {
  Gpu gpu;
  CUstream stream = nullptr;
  must(CU(cuStreamCreate)(&stream, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
  for (CUmemoryPool pool : {default_pool(), make_pool()}) {
    const std::string name = pool == default_pool() ? "default." : "own.";
    uint64_t threshold = ~uint64_t{0};
    must(CU(cuMemPoolSetAttribute)(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &threshold),
         "threshold");
    row(name + "fresh", [&] { return pool_numbers(pool); });
    CUdeviceptr p = 0;
    CUdeviceptr q = 0;
    row(name + "alloc_1000", [&] { return CU(cuMemAllocFromPoolAsync)(&p, 1000, pool, stream); });
    row(name + "after_1000", [&] { return pool_numbers(pool); });
    row(name + "alloc_3MiB",
        [&] { return CU(cuMemAllocFromPoolAsync)(&q, 3 * kMiB + 5, pool, stream); });
    row(name + "after_3MiB", [&] { return pool_numbers(pool); });
    CU(cuMemFreeAsync)(q, stream);
    CU(cuStreamSynchronize)(stream);
    row(name + "after_free", [&] { return pool_numbers(pool); });
    row(name + "trim_to_0", [&] { return CU(cuMemPoolTrimTo)(pool, 0); });
    row(name + "after_trim", [&] { return pool_numbers(pool); });
    uint64_t zero = 0;
    CU(cuMemPoolSetAttribute)(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH, &zero);
    row(name + "after_high_reset", [&] { return pool_numbers(pool); });
    CU(cuMemFreeAsync)(p, stream);
    CU(cuStreamSynchronize)(stream);
    CU(cuMemPoolTrimTo)(pool, 0);
    row(name + "all_free", [&] { return pool_numbers(pool); });
    row(name + "plain_alloc_is_not_counted", [&] {
      const CUdeviceptr plain = allocate(4 * kMiB);
      const std::string text = pool_numbers(pool);
      CU(cuMemFree)(plain);
      return text;
    });
  }
  row("default.trim_to_huge", [&] { return CU(cuMemPoolTrimTo)(default_pool(), ~size_t{0}); });
}

CONFORMANCE_GROUP(pool_create, 60) {
  Gpu gpu;
  const auto create = [](const CUmemPoolProps& props) {
    CUmemoryPool pool = nullptr;
    const CUresult result = CU(cuMemPoolCreate)(&pool, &props);
    return result == CUDA_SUCCESS ? "SUCCESS, destroy " + result_name(CU(cuMemPoolDestroy)(pool))
                                  : result_name(result);
  };
  row("plain", [&] { return create(device_props()); });
  row("fd", [&] { return create(device_props(CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)); });
  row("handle_type_99",
      [&] { return create(device_props(static_cast<CUmemAllocationHandleType>(99))); });
  row("max_size", [&] {
    CUmemPoolProps props = device_props();
    props.maxSize = 64 * kMiB;
    return create(props);
  });
  row("all_zero", [&] { return create(CUmemPoolProps{}); });
  row("no_such_device", [&] {
    CUmemPoolProps props = device_props();
    props.location.id = 99;
    return create(props);
  });
  row("alloc_type_9", [&] {
    CUmemPoolProps props = device_props();
    props.allocType = static_cast<CUmemAllocationType>(9);
    return create(props);
  });
  row("null_props", [&] {
    CUmemoryPool pool = nullptr;
    return CU(cuMemPoolCreate)(&pool, nullptr);
  });
  row("null_out", [&] {
    const CUmemPoolProps props = device_props();
    return CU(cuMemPoolCreate)(nullptr, &props);
  });
  CUdeviceptr p = 0;
  const CUmemoryPool pool = make_pool();
  row("alloc_zero", [&] { return CU(cuMemAllocFromPoolAsync)(&p, 0, pool, nullptr); });
  row("alloc_huge",
      [&] { return CU(cuMemAllocFromPoolAsync)(&p, uint64_t{1} << 50, pool, nullptr); });
  row("alloc_null_out", [&] { return CU(cuMemAllocFromPoolAsync)(nullptr, 100, pool, nullptr); });
  row("alloc_null_pool", [&] { return CU(cuMemAllocFromPoolAsync)(&p, 100, nullptr, nullptr); });
  row("destroy_null", [&] { return CU(cuMemPoolDestroy)(nullptr); });
}

// Memory of a pool outlives the pool until it is freed.
CONFORMANCE_GROUP(pool_destroy_with_live, 60) {
  Gpu gpu;
  Kernels kernels;
  const CUmemoryPool pool = make_pool();
  CUdeviceptr p = 0;
  must(CU(cuMemAllocFromPoolAsync)(&p, kMiB, pool, nullptr), "cuMemAllocFromPoolAsync");
  must(kernels.fill(p, kMiB, 6), "fill");
  row("destroy", [&] { return CU(cuMemPoolDestroy)(pool); });
  row("contents", [&] { return kernels.contents(p, kMiB, 6); });
  row("free", [&] { return CU(cuMemFreeAsync)(p, nullptr); });
  row("sync", [&] { return CU(cuStreamSynchronize)(nullptr); });
  row("free_again", [&] { return CU(cuMemFreeAsync)(p, nullptr); });
}

CONFORMANCE_GROUP(pool_current, 60) {
  Gpu gpu;
  const CUmemoryPool pool = make_pool();
  row("set", [&] { return CU(cuDeviceSetMemPool)(0, pool); });
  row("get", [&] {
    CUmemoryPool seen = nullptr;
    const CUresult result = CU(cuDeviceGetMemPool)(&seen, 0);
    return result_and(result, seen == pool ? "own" : "other");
  });
  CUdeviceptr p = 0;
  row("alloc", [&] { return CU(cuMemAllocAsync)(&p, 3000, nullptr); });
  row("comes_from", [&] {
    CUmemoryPool seen = nullptr;
    const CUresult result =
        CU(cuPointerGetAttribute)(&seen, CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE, p);
    return result_and(result, seen == pool ? "own" : "other");
  });
  row("used",
      [&] { return fmt::format("{}", pool_value(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT)); });
  row("free", [&] { return CU(cuMemFreeAsync)(p, nullptr); });
  row("destroy_current", [&] { return CU(cuMemPoolDestroy)(pool); });
  row("get_after_destroy", [&] {
    CUmemoryPool seen = nullptr;
    const CUresult result = CU(cuDeviceGetMemPool)(&seen, 0);
    return result_and(result, seen == default_pool() ? "default" : "other");
  });
}

CONFORMANCE_GROUP(pool_access, 60) {
  Gpu gpu;
  const CUmemoryPool own = make_pool();
  for (CUmemoryPool pool : {default_pool(), own}) {
    const std::string name = pool == own ? "own." : "default.";
    CUmemLocation here = device_location(0);
    CUmemLocation nowhere = device_location(99);
    CUmemLocation host = host_location();
    const auto get = [&](CUmemLocation* location) {
      CUmemAccess_flags flags = static_cast<CUmemAccess_flags>(77);
      const CUresult result = CU(cuMemPoolGetAccess)(&flags, pool, location);
      return result_and(result, fmt::format("{}", static_cast<int>(flags)));
    };
    const auto set = [&](const CUmemLocation& location, CUmemAccess_flags flags) {
      const CUmemAccessDesc wanted = {location, flags};
      return CU(cuMemPoolSetAccess)(pool, &wanted, 1);
    };
    row(name + "get_here", [&] { return get(&here); });
    row(name + "get_nowhere", [&] { return get(&nowhere); });
    row(name + "get_host", [&] { return get(&host); });
    row(name + "set_here_rw", [&] { return set(here, CU_MEM_ACCESS_FLAGS_PROT_READWRITE); });
    row(name + "set_here_none", [&] { return set(here, CU_MEM_ACCESS_FLAGS_PROT_NONE); });
    row(name + "set_here_read", [&] { return set(here, CU_MEM_ACCESS_FLAGS_PROT_READ); });
    row(name + "set_nowhere", [&] { return set(nowhere, CU_MEM_ACCESS_FLAGS_PROT_READWRITE); });
    row(name + "set_host", [&] { return set(host, CU_MEM_ACCESS_FLAGS_PROT_READWRITE); });
    row(name + "set_none_at_all", [&] { return CU(cuMemPoolSetAccess)(pool, nullptr, 0); });
    row(name + "set_null_one", [&] { return CU(cuMemPoolSetAccess)(pool, nullptr, 1); });
    row(name + "get_null_out", [&] { return CU(cuMemPoolGetAccess)(nullptr, pool, &here); });
  }
}

}  // namespace
}  // namespace flexlom::conformance
