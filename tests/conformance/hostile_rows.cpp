// Arguments that no correct program passes. The driver may refuse, and it may crash: every question
// is asked in a process of its own, and the crash is the answer.
#include <unistd.h>
#include <concepts>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <thread>
#include <vector>

#include "tests/conformance/driver.hpp"

namespace flexlom::conformance {
namespace {

struct Hostile {
  const char* name;
  // Gives a CUresult or a text.
  template <std::invocable Ask>
  Hostile(const char* row_name, Ask question)
      : name(row_name), ask([question]() -> std::string {
          if constexpr (std::is_same_v<decltype(question()), CUresult>) {
            return result_name(question());
          } else {
            return question();
          }
        }) {}
  std::function<std::string()> ask;
};

// A handle that points to readable memory full of zeroes, which is no handle all the same.
template <typename Handle>
Handle zeroes() {
  static char page[8192];
  return reinterpret_cast<Handle>(page + 1024);
}

CUmemoryPool default_pool() {
  CUmemoryPool pool = nullptr;
  must(CU(cuDeviceGetDefaultMemPool)(&pool, 0), "cuDeviceGetDefaultMemPool");
  return pool;
}

CUmemoryPool destroyed_pool() {
  CUmemPoolProps props = {};
  props.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
  props.location = device_location(0);
  CUmemoryPool pool = nullptr;
  must(CU(cuMemPoolCreate)(&pool, &props), "cuMemPoolCreate");
  must(CU(cuMemPoolDestroy)(pool), "cuMemPoolDestroy");
  return pool;
}

CUstream destroyed_stream() {
  CUstream stream = nullptr;
  must(CU(cuStreamCreate)(&stream, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
  must(CU(cuStreamDestroy)(stream), "cuStreamDestroy");
  return stream;
}

CUcontext destroyed_context() {
  CUcontext context = nullptr;
  must(CU(cuCtxCreate)(&context, nullptr, 0, 0), "cuCtxCreate");
  must(CU(cuCtxDestroy)(context), "cuCtxDestroy");
  return context;
}

CUdeviceptr freed_large() {
  const CUdeviceptr p = allocate(large_bytes());
  must(CU(cuMemFree)(p), "cuMemFree");
  return p;
}

CUdeviceptr allocate_async(uint64_t bytes) {
  CUdeviceptr p = 0;
  must(CU(cuMemAllocAsync)(&p, bytes, nullptr), "cuMemAllocAsync");
  return p;
}

// To an address where nothing is.
void launch_astray() {
  const Kernels kernels;
  kernels.launch(nullptr, "flex_fill", CUdeviceptr{0x600000000000}, uint64_t{16}, 1u);
}

const std::vector<Hostile>& questions() {
  static CUdeviceptr p = 0;
  static const std::vector<Hostile> all = {
      {"alloc_async_bogus_stream",
       [] { return CU(cuMemAllocAsync)(&p, 1000, zeroes<CUstream>()); }},
      {"free_async_bogus_stream",
       [] { return CU(cuMemFreeAsync)(allocate_async(1000), zeroes<CUstream>()); }},
      {"free_plain_async_bogus_stream",
       [] { return CU(cuMemFreeAsync)(allocate(1000), zeroes<CUstream>()); }},
      {"free_async_then_free_of_plain",
       [] {
         const CUdeviceptr q = allocate(3 * kMiB);
         return in_order({result_name(CU(cuMemFreeAsync)(q, nullptr)),
                          result_name(CU(cuMemFree)(q)), result_name(CU(cuCtxSynchronize)())});
       }},
      {"alloc_async_destroyed_stream",
       [] { return CU(cuMemAllocAsync)(&p, 1000, destroyed_stream()); }},
      {"alloc_bogus_pool",
       [] { return CU(cuMemAllocFromPoolAsync)(&p, 1000, zeroes<CUmemoryPool>(), nullptr); }},
      {"alloc_destroyed_pool",
       [] { return CU(cuMemAllocFromPoolAsync)(&p, 1000, destroyed_pool(), nullptr); }},
      {"destroy_pool_twice", [] { return CU(cuMemPoolDestroy)(destroyed_pool()); }},
      {"destroy_bogus_pool", [] { return CU(cuMemPoolDestroy)(zeroes<CUmemoryPool>()); }},
      {"attribute_of_bogus_pool",
       [] {
         uint64_t value = 0;
         return CU(cuMemPoolGetAttribute)(zeroes<CUmemoryPool>(), CU_MEMPOOL_ATTR_USED_MEM_CURRENT,
                                          &value);
       }},
      {"attribute_of_null_pool",
       [] {
         uint64_t value = 0;
         return CU(cuMemPoolGetAttribute)(nullptr, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &value);
       }},
      {"pool_attribute_null_value",
       [] {
         return CU(cuMemPoolGetAttribute)(default_pool(), CU_MEMPOOL_ATTR_USED_MEM_CURRENT,
                                          nullptr);
       }},
      {"pool_set_attribute_null_value",
       [] {
         return CU(cuMemPoolSetAttribute)(default_pool(), CU_MEMPOOL_ATTR_RELEASE_THRESHOLD,
                                          nullptr);
       }},
      {"trim_null_pool", [] { return CU(cuMemPoolTrimTo)(nullptr, 0); }},
      {"export_pointer_null_out",
       [] { return CU(cuMemPoolExportPointer)(nullptr, allocate_async(1000)); }},
      {"set_attribute_null_value",
       [] {
         return CU(cuPointerSetAttribute)(nullptr, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS,
                                          allocate(1000));
       }},
      {"attributes_null_in_list",
       [] {
         CUpointer_attribute ids[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE};
         void* data[] = {nullptr};
         return CU(cuPointerGetAttributes)(1, ids, data, allocate(1000));
       }},
      {"attributes_all_null", [] { return CU(cuPointerGetAttributes)(1, nullptr, nullptr, 0); }},
      {"retain_handle_null_out",
       [] { return CU(cuMemRetainAllocationHandle)(nullptr, host_address(allocate(1000))); }},
      {"get_access_null_location",
       [] {
         unsigned long long flags = 0;
         return CU(cuMemGetAccess)(&flags, nullptr, allocate(1000));
       }},
      {"release_bogus_handle", [] { return CU(cuMemRelease)(12345); }},
      {"release_zero_handle", [] { return CU(cuMemRelease)(0); }},
      {"map_bogus_handle",
       [] {
         must(CU(cuMemAddressReserve)(&p, 2 * kMiB, 0, 0, 0), "cuMemAddressReserve");
         return CU(cuMemMap)(p, 2 * kMiB, 0, 12345, 0);
       }},
      {"set_current_destroyed_context",
       [] {
         return in_order({result_name(CU(cuCtxSetCurrent)(destroyed_context())),
                          result_name(CU(cuMemAlloc)(&p, 1000))});
       }},
      {"thread_with_destroyed_context",
       [] {
         CUcontext context = nullptr;
         must(CU(cuCtxCreate)(&context, nullptr, 0, 0), "cuCtxCreate");
         std::string text;
         int steps[2];
         if (pipe(steps) != 0) {
           return std::string("no pipe");
         }
         std::thread other([&] {
           CU(cuCtxSetCurrent)(context);
           char c = 0;
           if (read(steps[0], &c, 1) == 1) {
             text =
                 in_order({result_name(CU(cuMemAlloc)(&p, 1000)), result_name(CU(cuMemFree)(0))});
           }
         });
         must(CU(cuCtxSynchronize)(), "cuCtxSynchronize");
         usleep(50'000);
         const CUresult destroyed = CU(cuCtxDestroy)(context);
         const bool told = write(steps[1], "x", 1) == 1;
         other.join();
         return result_name(destroyed) + " " + (told ? text : "no pipe");
       }},
      {"destroy_context_twice", [] { return CU(cuCtxDestroy)(destroyed_context()); }},
      {"destroy_null_context", [] { return CU(cuCtxDestroy)(nullptr); }},
      {"copy_from_freed_large",
       [] {
         char bytes[16];
         return CU(cuMemcpyDtoH)(bytes, freed_large(), sizeof bytes);
       }},
      {"memset_of_freed_large",
       [] {
         return in_order({result_name(CU(cuMemsetD8)(freed_large(), 1, 4096)),
                          result_name(CU(cuCtxSynchronize)())});
       }},
      {"write_value_to_unused_address",
       [] {
         return in_order({result_name(CU(cuStreamWriteValue32)(nullptr, 0x600000000000, 1, 0)),
                          result_name(CU(cuCtxSynchronize)())});
       }},
      {"kernel_on_unused_address",
       [] {
         launch_astray();
         return in_order({result_name(CU(cuCtxSynchronize)()),
                          result_name(CU(cuMemAlloc)(&p, 1000)), result_name(CU(cuMemFree)(0))});
       }},
      {"memory_calls_after_fault",
       [] {
         const CUdeviceptr q = allocate(3 * kMiB);
         launch_astray();
         CU(cuCtxSynchronize)();
         size_t free_bytes = 0;
         size_t total = 0;
         unsigned type = 0;
         return in_order(
             {result_name(CU(cuMemFree)(q)), result_name(CU(cuMemGetInfo)(&free_bytes, &total)),
              result_name(CU(cuPointerGetAttribute)(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, q)),
              result_name(CU(cuMemAllocAsync)(&p, 1000, nullptr))});
       }},
      {"fork_after_init",
       [] {
         const pid_t child = fork();
         if (child == 0) {
           const CUresult result = CU(cuMemAlloc)(&p, 1000);
           std::printf("%s %s\n", result_name(result).c_str(),
                       result_name(CU(cuMemFree)(0)).c_str());
           std::fflush(stdout);
           _exit(0);
         }
         usleep(200'000);
         return "parent " + result_name(CU(cuMemFree)(allocate(3 * kMiB)));
       }},
      {"exit_with_live_allocations",
       [] {
         allocate(1000);
         allocate(3 * kMiB);
         CU(cuMemAllocAsync)(&p, kMiB, nullptr);
         return std::string("leaving");
       }},
      {"calls_in_exit_handler",
       [] {
         static CUdeviceptr kept = allocate(3 * kMiB);
         std::atexit([] {
           // Before the driver's own handler or after it: either order, but no crash.
           CU(cuMemFree)(kept);
           CU(cuMemAlloc)(&kept, 1000);
         });
         return std::string("leaving");
       }},
  };
  return all;
}

CONFORMANCE_HELPER(hostile) {
  const Gpu gpu;
  for (const Hostile& question : questions()) {
    if (args[0] == question.name) {
      std::printf("%s\n", question.ask().c_str());
      return 0;
    }
  }
  return 2;
}

CONFORMANCE_GROUP(hostile, 240) {
  for (const Hostile& question : questions()) {
    row(question.name, [&] { return ask_helper({"hostile", question.name}); });
  }
}

}  // namespace
}  // namespace flexlom::conformance
