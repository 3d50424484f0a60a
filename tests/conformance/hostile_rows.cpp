// Arguments that no correct program passes. The driver may refuse, and it may crash: every question
// is asked in a process of its own, and the crash is the answer.
#include <unistd.h>
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
  std::function<std::string(Gpu&)> ask;
};

// A handle that points to readable memory full of zeroes, which is no handle all the same.
template <typename Handle>
Handle zeroes() {
  static char page[8192];
  return reinterpret_cast<Handle>(page + 1024);
}

const std::vector<Hostile>& questions() {
  static CUdeviceptr p = 0;
  static const std::vector<Hostile> all = {
      {"alloc_async_bogus_stream",
       [](Gpu&) { return result_name(CU(cuMemAllocAsync)(&p, 1000, zeroes<CUstream>())); }},
      {"free_async_bogus_stream",
       [](Gpu&) {
         must(CU(cuMemAllocAsync)(&p, 1000, nullptr), "cuMemAllocAsync");
         return result_name(CU(cuMemFreeAsync)(p, zeroes<CUstream>()));
       }},
      {"free_plain_async_bogus_stream",
       [](Gpu&) { return result_name(CU(cuMemFreeAsync)(allocate(1000), zeroes<CUstream>())); }},
      {"free_async_then_free_of_plain",
       [](Gpu&) {
         const CUdeviceptr q = allocate(3 * kMiB);
         return in_order({result_name(CU(cuMemFreeAsync)(q, nullptr)),
                          result_name(CU(cuMemFree)(q)), result_name(CU(cuCtxSynchronize)())});
       }},
      {"alloc_async_destroyed_stream",
       [](Gpu&) {
         CUstream stream = nullptr;
         must(CU(cuStreamCreate)(&stream, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
         must(CU(cuStreamDestroy)(stream), "cuStreamDestroy");
         return result_name(CU(cuMemAllocAsync)(&p, 1000, stream));
       }},
      {"alloc_bogus_pool",
       [](Gpu&) {
         return result_name(CU(cuMemAllocFromPoolAsync)(&p, 1000, zeroes<CUmemoryPool>(), nullptr));
       }},
      {"alloc_destroyed_pool",
       [](Gpu&) {
         CUmemPoolProps props = {};
         props.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
         props.location = device_location(0);
         CUmemoryPool pool = nullptr;
         must(CU(cuMemPoolCreate)(&pool, &props), "cuMemPoolCreate");
         must(CU(cuMemPoolDestroy)(pool), "cuMemPoolDestroy");
         return result_name(CU(cuMemAllocFromPoolAsync)(&p, 1000, pool, nullptr));
       }},
      {"destroy_pool_twice",
       [](Gpu&) {
         CUmemPoolProps props = {};
         props.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
         props.location = device_location(0);
         CUmemoryPool pool = nullptr;
         must(CU(cuMemPoolCreate)(&pool, &props), "cuMemPoolCreate");
         must(CU(cuMemPoolDestroy)(pool), "cuMemPoolDestroy");
         return result_name(CU(cuMemPoolDestroy)(pool));
       }},
      {"destroy_bogus_pool",
       [](Gpu&) { return result_name(CU(cuMemPoolDestroy)(zeroes<CUmemoryPool>())); }},
      {"attribute_of_bogus_pool",
       [](Gpu&) {
         uint64_t value = 0;
         return result_name(CU(cuMemPoolGetAttribute)(zeroes<CUmemoryPool>(),
                                                      CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &value));
       }},
      {"attribute_of_null_pool",
       [](Gpu&) {
         uint64_t value = 0;
         return result_name(
             CU(cuMemPoolGetAttribute)(nullptr, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &value));
       }},
      {"pool_attribute_null_value",
       [](Gpu&) {
         CUmemoryPool pool = nullptr;
         must(CU(cuDeviceGetDefaultMemPool)(&pool, 0), "cuDeviceGetDefaultMemPool");
         return result_name(
             CU(cuMemPoolGetAttribute)(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, nullptr));
       }},
      {"pool_set_attribute_null_value",
       [](Gpu&) {
         CUmemoryPool pool = nullptr;
         must(CU(cuDeviceGetDefaultMemPool)(&pool, 0), "cuDeviceGetDefaultMemPool");
         return result_name(
             CU(cuMemPoolSetAttribute)(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, nullptr));
       }},
      {"trim_null_pool", [](Gpu&) { return result_name(CU(cuMemPoolTrimTo)(nullptr, 0)); }},
      {"export_pointer_null_out",
       [](Gpu&) {
         must(CU(cuMemAllocAsync)(&p, 1000, nullptr), "cuMemAllocAsync");
         return result_name(CU(cuMemPoolExportPointer)(nullptr, p));
       }},
      {"set_attribute_null_value",
       [](Gpu&) {
         return result_name(
             CU(cuPointerSetAttribute)(nullptr, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, allocate(1000)));
       }},
      {"attributes_null_in_list",
       [](Gpu&) {
         CUpointer_attribute ids[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE};
         void* data[] = {nullptr};
         return result_name(CU(cuPointerGetAttributes)(1, ids, data, allocate(1000)));
       }},
      {"attributes_all_null",
       [](Gpu&) { return result_name(CU(cuPointerGetAttributes)(1, nullptr, nullptr, 0)); }},
      {"retain_handle_null_out",
       [](Gpu&) {
         return result_name(CU(cuMemRetainAllocationHandle)(nullptr, host_address(allocate(1000))));
       }},
      {"get_access_null_location",
       [](Gpu&) {
         unsigned long long flags = 0;
         return result_name(CU(cuMemGetAccess)(&flags, nullptr, allocate(1000)));
       }},
      {"release_bogus_handle", [](Gpu&) { return result_name(CU(cuMemRelease)(12345)); }},
      {"release_zero_handle", [](Gpu&) { return result_name(CU(cuMemRelease)(0)); }},
      {"map_bogus_handle",
       [](Gpu&) {
         must(CU(cuMemAddressReserve)(&p, 2 * kMiB, 0, 0, 0), "cuMemAddressReserve");
         return result_name(CU(cuMemMap)(p, 2 * kMiB, 0, 12345, 0));
       }},
      {"set_current_destroyed_context",
       [](Gpu&) {
         CUcontext context = nullptr;
         must(CU(cuCtxCreate)(&context, nullptr, 0, 0), "cuCtxCreate");
         must(CU(cuCtxDestroy)(context), "cuCtxDestroy");
         const CUresult result = CU(cuCtxSetCurrent)(context);
         return result_name(result) + " " + result_name(CU(cuMemAlloc)(&p, 1000));
       }},
      {"thread_with_destroyed_context",
       [](Gpu&) {
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
      {"destroy_context_twice",
       [](Gpu&) {
         CUcontext context = nullptr;
         must(CU(cuCtxCreate)(&context, nullptr, 0, 0), "cuCtxCreate");
         must(CU(cuCtxDestroy)(context), "cuCtxDestroy");
         return result_name(CU(cuCtxDestroy)(context));
       }},
      {"destroy_null_context", [](Gpu&) { return result_name(CU(cuCtxDestroy)(nullptr)); }},
      {"copy_from_freed_large",
       [](Gpu&) {
         p = allocate(large_bytes());
         must(CU(cuMemFree)(p), "cuMemFree");
         char bytes[16];
         return result_name(CU(cuMemcpyDtoH)(bytes, p, sizeof bytes));
       }},
      {"memset_of_freed_large",
       [](Gpu&) {
         p = allocate(large_bytes());
         must(CU(cuMemFree)(p), "cuMemFree");
         const CUresult result = CU(cuMemsetD8)(p, 1, 4096);
         return result_name(result) + " " + result_name(CU(cuCtxSynchronize)());
       }},
      {"write_value_to_unused_address",
       [](Gpu&) {
         const CUresult result = CU(cuStreamWriteValue32)(nullptr, 0x600000000000, 1, 0);
         return result_name(result) + " " + result_name(CU(cuCtxSynchronize)());
       }},
      {"kernel_on_unused_address",
       [](Gpu&) {
         Kernels kernels;
         kernels.launch(nullptr, "flex_fill", CUdeviceptr{0x600000000000}, uint64_t{16}, 1u);
         const CUresult result = CU(cuCtxSynchronize)();
         return in_order({result_name(result), result_name(CU(cuMemAlloc)(&p, 1000)),
                          result_name(CU(cuMemFree)(0))});
       }},
      {"memory_calls_after_fault",
       [](Gpu&) {
         Kernels kernels;
         const CUdeviceptr q = allocate(3 * kMiB);
         kernels.launch(nullptr, "flex_fill", CUdeviceptr{0x600000000000}, uint64_t{16}, 1u);
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
       [](Gpu&) {
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
       [](Gpu&) {
         allocate(1000);
         allocate(3 * kMiB);
         CU(cuMemAllocAsync)(&p, kMiB, nullptr);
         return std::string("leaving");
       }},
      {"calls_in_exit_handler",
       [](Gpu&) {
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
  Gpu gpu;
  for (const Hostile& question : questions()) {
    if (args[0] == question.name) {
      std::printf("%s\n", question.ask(gpu).c_str());
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
