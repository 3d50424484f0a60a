// Legacy CUDA IPC and exported pools: handles opened in a second process, contents checked there
// and here.
#include <fcntl.h>
#include <unistd.h>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/conformance/pointer_kinds.hpp"

namespace flexlom::conformance {
namespace {

std::string hex(const void* data, size_t bytes) {
  std::string text;
  for (size_t i = 0; i < bytes; ++i) {
    text += fmt::format("{:02x}", static_cast<const unsigned char*>(data)[i]);
  }
  return text;
}

void unhex(const std::string& text, void* data, size_t bytes) {
  for (size_t i = 0; i < bytes && 2 * i + 1 < text.size(); ++i) {
    const std::string digits = text.substr(2 * i, 2);
    static_cast<unsigned char*>(data)[i] =
        static_cast<unsigned char>(std::strtoul(digits.c_str(), nullptr, 16));
  }
}

// args: handle, bytes, offset. Checks seed 11 from the offset on, writes seed 12, closes.
CONFORMANCE_HELPER(ipc_open) {
  Gpu gpu;
  Kernels kernels;
  CUipcMemHandle handle;
  unhex(args[0], &handle, sizeof handle);
  const uint64_t bytes = std::strtoull(args[1].c_str(), nullptr, 10);
  const uint64_t offset = std::strtoull(args[2].c_str(), nullptr, 10);
  CUdeviceptr p = 0;
  const CUresult opened = CU(cuIpcOpenMemHandle)(&p, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);
  std::printf("open %s", result_name(opened).c_str());
  if (opened == CUDA_SUCCESS) {
    std::printf(", contents %s", kernels.contents(p + offset, bytes, 11).c_str());
    CUdeviceptr again = 0;
    const CUresult twice =
        CU(cuIpcOpenMemHandle)(&again, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);
    std::printf(", again %s %s", result_name(twice).c_str(), again == p ? "same" : "other");
    if (twice == CUDA_SUCCESS) {
      std::printf(", close again %s", result_name(CU(cuIpcCloseMemHandle)(again)).c_str());
    }
    std::printf(", write %s", result_name(kernels.fill(p + offset, bytes, 12)).c_str());
    std::printf(", free %s", result_name(CU(cuMemFree)(p)).c_str());
    std::printf(", close %s", result_name(CU(cuIpcCloseMemHandle)(p)).c_str());
    std::printf(", close twice %s", result_name(CU(cuIpcCloseMemHandle)(p)).c_str());
  }
  std::printf("\n");
  return 0;
}

void exchange_rows(const Kernels& kernels, const std::string& name, CUdeviceptr p, uint64_t bytes) {
  must(kernels.fill(p, bytes, 11), "fill");
  CUipcMemHandle handle = {};
  const CUresult got = CU(cuIpcGetMemHandle)(&handle, p);
  row(name + ".get", got);
  if (got != CUDA_SUCCESS) {
    return;
  }
  row(name + ".get_again", [&] {
    CUipcMemHandle again = {};
    const CUresult result = CU(cuIpcGetMemHandle)(&again, p);
    const bool same = std::memcmp(&again, &handle, sizeof handle) == 0;
    return result_and(result, same ? "same" : "other");
  });
  row(name + ".other_process", [&] {
    return ask_helper({"ipc_open", hex(&handle, sizeof handle), fmt::format("{}", bytes), "0"});
  });
  row(name + ".contents_here", [&] { return kernels.contents(p, bytes, 12); });
  row(name + ".same_process", [&] {
    CUdeviceptr q = 0;
    return CU(cuIpcOpenMemHandle)(&q, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);
  });
  row(name + ".free", [&] { return CU(cuMemFree)(p); });
  // The memory around a small block lives on: whether a stale handle still opens is an accident.
  if (bytes < 2 * kMiB) {
    return;
  }
  row(name + ".open_after_free", [&] {
    return ask_helper({"ipc_open", hex(&handle, sizeof handle), fmt::format("{}", bytes), "0"});
  });
}

CONFORMANCE_GROUP(ipc_exchange, 240) {
  Gpu gpu;
  Kernels kernels;
  exchange_rows(kernels, "4MiB", allocate(4 * kMiB), 4 * kMiB);
  exchange_rows(kernels, "large", allocate(large_bytes()), large_bytes());
  exchange_rows(kernels, "1000B", allocate(1000), 1000);
}

CONFORMANCE_GROUP(ipc_get, 120) {
  Gpu gpu;
  for (const PointerKind& kind : make_pointer_kinds()) {
    row(kind.name, [&] {
      CUipcMemHandle handle = {};
      return CU(cuIpcGetMemHandle)(&handle, kind.p);
    });
  }
  row("null_out", [&] { return CU(cuIpcGetMemHandle)(nullptr, allocate(kMiB)); });
}

CONFORMANCE_GROUP(ipc_bad, 120) {
  Gpu gpu;
  CUipcMemHandle zero = {};
  CUdeviceptr p = 0;
  row("open_zero_handle",
      [&] { return CU(cuIpcOpenMemHandle)(&p, zero, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS); });
  row("open_flags_0", [&] { return CU(cuIpcOpenMemHandle)(&p, zero, 0); });
  row("open_flags_99", [&] { return CU(cuIpcOpenMemHandle)(&p, zero, 99); });
  row("open_null_out", [&] { return CU(cuIpcOpenMemHandle)(nullptr, zero, 1); });
  row("close_null", [&] { return CU(cuIpcCloseMemHandle)(0); });
  row("close_own", [&] { return CU(cuIpcCloseMemHandle)(allocate(3 * kMiB)); });
  row("close_unknown", [&] { return CU(cuIpcCloseMemHandle)(0x600000000000); });
  row("interior_handle_opened", [&] {
    Kernels kernels;
    const CUdeviceptr base = allocate(4 * kMiB);
    must(kernels.fill(base, 4 * kMiB, 11), "fill");
    CUipcMemHandle handle = {};
    const CUresult got = CU(cuIpcGetMemHandle)(&handle, base + kMiB);
    return got != CUDA_SUCCESS
               ? result_name(got)
               : ask_helper({"ipc_open", hex(&handle, sizeof handle), "4194304", "0"});
  });
}

// Two processes hold the memory at the same time; the second sees what the first writes later.
CONFORMANCE_HELPER(ipc_hold) {
  Gpu gpu;
  Kernels kernels;
  CUipcMemHandle handle;
  unhex(args[0], &handle, sizeof handle);
  CUdeviceptr p = 0;
  std::printf("%s\n", result_name(CU(cuIpcOpenMemHandle)(&p, handle, 1)).c_str());
  std::fflush(stdout);
  char line[64];
  while (std::fgets(line, sizeof line, stdin) != nullptr) {
    const uint32_t seed = static_cast<uint32_t>(std::strtoul(line, nullptr, 10));
    std::printf("%s\n", kernels.contents(p, 4 * kMiB, seed).c_str());
    std::fflush(stdout);
  }
  return 0;
}

CONFORMANCE_GROUP(ipc_shared, 120) {
  Gpu gpu;
  Kernels kernels;
  const CUdeviceptr p = allocate(4 * kMiB);
  CUipcMemHandle handle = {};
  must(CU(cuIpcGetMemHandle)(&handle, p), "cuIpcGetMemHandle");
  RunningHelper peer({"ipc_hold", hex(&handle, sizeof handle)});
  row("open", peer.read_line());
  for (uint32_t seed : {21u, 22u}) {
    must(kernels.fill(p, 4 * kMiB, seed), "fill");
    peer.write_line(fmt::format("{}", seed));
    row(fmt::format("seen_{}", seed), peer.read_line());
  }
  row("peer", peer.wait());
  row("free", [&] { return CU(cuMemFree)(p); });
}

// args: file descriptor, export data. The descriptor was inherited.
CONFORMANCE_HELPER(pool_import) {
  Gpu gpu;
  Kernels kernels;
  const intptr_t fd = std::strtol(args[0].c_str(), nullptr, 10);
  CUmemPoolPtrExportData data;
  unhex(args[1], &data, sizeof data);
  CUmemoryPool pool = nullptr;
  const CUresult imported = CU(cuMemPoolImportFromShareableHandle)(
      &pool, reinterpret_cast<void*>(fd), CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
  std::printf("pool %s", result_name(imported).c_str());
  if (imported == CUDA_SUCCESS) {
    CUmemAccessDesc access = {device_location(0), CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    CU(cuMemPoolSetAccess)(pool, &access, 1);
    CUdeviceptr p = 0;
    const CUresult pointer = CU(cuMemPoolImportPointer)(&p, pool, &data);
    std::printf(", pointer %s", result_name(pointer).c_str());
    if (pointer == CUDA_SUCCESS) {
      std::printf(", contents %s", kernels.contents(p, kMiB, 11).c_str());
      std::printf(", free %s", result_name(CU(cuMemFreeAsync)(p, nullptr)).c_str());
    }
  }
  std::printf("\n");
  return 0;
}

CONFORMANCE_GROUP(ipc_pool_export, 120) {
  Gpu gpu;
  Kernels kernels;
  CUmemoryPool standard = nullptr;
  must(CU(cuDeviceGetDefaultMemPool)(&standard, 0), "cuDeviceGetDefaultMemPool");
  CUmemPoolProps props = {};
  props.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
  props.location = device_location(0);
  CUmemoryPool closed = nullptr;
  must(CU(cuMemPoolCreate)(&closed, &props), "cuMemPoolCreate");
  const auto export_pool = [](CUmemoryPool pool, CUmemAllocationHandleType type) {
    int fd = -1;
    const CUresult result = CU(cuMemPoolExportToShareableHandle)(&fd, pool, type, 0);
    if (fd >= 0) {
      close(fd);
    }
    return result_and(result, fd >= 0 ? "fd" : "no fd");
  };
  row("default", [&] { return export_pool(standard, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR); });
  row("closed", [&] { return export_pool(closed, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR); });
  row("none", [&] { return export_pool(closed, CU_MEM_HANDLE_TYPE_NONE); });
  const auto export_pointer = [](CUdeviceptr p) {
    CUmemPoolPtrExportData data = {};
    return CU(cuMemPoolExportPointer)(&data, p);
  };
  row("pointer_of_alloc", [&] { return export_pointer(allocate(kMiB)); });
  row("pointer_null", [&] { return export_pointer(0); });
  CUdeviceptr p = 0;
  must(CU(cuMemAllocAsync)(&p, kMiB, nullptr), "cuMemAllocAsync");
  row("pointer_of_default", [&] { return export_pointer(p); });
  props.handleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
  CUmemoryPool open = nullptr;
  must(CU(cuMemPoolCreate)(&open, &props), "cuMemPoolCreate with descriptors");
  must(CU(cuMemAllocFromPoolAsync)(&p, kMiB, open, nullptr), "cuMemAllocFromPoolAsync");
  must(kernels.fill(p, kMiB, 11), "fill");
  int fd = -1;
  row("export", [&] {
    return CU(cuMemPoolExportToShareableHandle)(&fd, open, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
                                                0);
  });
  CUmemPoolPtrExportData data = {};
  row("pointer", [&] { return CU(cuMemPoolExportPointer)(&data, p); });
  row("interior_pointer", [&] { return export_pointer(p + 512); });
  if (fd < 0) {
    say("other_process", "no descriptor");
    return;
  }
  fcntl(fd, F_SETFD, 0);
  row("other_process", [&] {
    return ask_helper({"pool_import", fmt::format("{}", fd), hex(&data, sizeof data)});
  });
  row("contents_here", [&] { return kernels.contents(p, kMiB, 11); });
  row("free", [&] { return CU(cuMemFreeAsync)(p, nullptr); });
}

}  // namespace
}  // namespace flexlom::conformance
