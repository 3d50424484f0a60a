#include "interpose/real_driver.h"

#include "interpose/doors/originals.h"

namespace flexlom {

using pool::Where;

// A driver that lacks a call answers as drivers do for what they cannot.
#define CALL(symbol, ...)                                                  \
  [&]() -> CUresult {                                                      \
    const auto real = FLEXLOM_ORIGINAL(symbol);                            \
    return real != nullptr ? real(__VA_ARGS__) : CUDA_ERROR_NOT_SUPPORTED; \
  }()

namespace {

// 0 when the driver does not know the attribute; any other error ends up in `*error`.
int attribute(int device, CUdevice_attribute which, CUresult* error) {
  int value = 0;
  const CUresult r = CALL(cuDeviceGetAttribute, &value, which, device);
  if (r == CUDA_SUCCESS) return value;
  if (r != CUDA_ERROR_INVALID_VALUE) *error = r;
  return 0;
}

}  // namespace

CUmemAllocationProp RealDriver::properties(int device, Where where, const Probed& probed) {
  CUmemAllocationProp prop{};
  prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  if (where == Where::device) {
    prop.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    prop.location.id = device;
    // Which allocation another process will ask for is not known when its frames are made.
    if (probed.shareable) prop.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    prop.allocFlags.gpuDirectRDMACapable = probed.rdma ? 1 : 0;
  } else if (probed.host_numa_id >= 0) {
    prop.location.type = CU_MEM_LOCATION_TYPE_HOST_NUMA;
    prop.location.id = probed.host_numa_id;
  } else {
    prop.location.type = CU_MEM_LOCATION_TYPE_HOST;
  }
  return prop;
}

// Attributes promise host frames on machines where creating one fails (no memory on the node, an
// asymmetric topology), so one is created to see.
bool RealDriver::probe_host(int device, Probed* probed, CUresult* error) noexcept {
  for (const int node : {attribute(device, CU_DEVICE_ATTRIBUTE_HOST_NUMA_ID, error), -1}) {
    probed->host_numa_id = node;
    const CUmemAllocationProp prop = properties(device, Where::host, *probed);
    CUmemGenericAllocationHandle frame = 0;
    if (CALL(cuMemCreate, &frame, pool::kGranule, &prop, 0) != CUDA_SUCCESS) continue;
    CALL(cuMemRelease, frame);
    return true;
  }
  return false;
}

CUresult RealDriver::facts(int device, pool::DeviceFacts* out) noexcept {
  if (device < 0 || device >= kDevices) return CUDA_ERROR_INVALID_DEVICE;
  // The driver tells what is free on the current context's device, whichever that is.
  CUdevice current = -1;
  CUresult r = CALL(cuCtxGetDevice, &current);
  if (r == CUDA_SUCCESS && current != device) r = CUDA_ERROR_INVALID_CONTEXT;
  if (r != CUDA_SUCCESS) return r;
  size_t total = 0, available = 0;
  r = CALL(cuMemGetInfo_v2, &available, &total);
  if (r != CUDA_SUCCESS) return r;
  Probed probed;
  probed.shareable =
      attribute(device, CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED, &r) != 0;
  probed.rdma =
      attribute(device, CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED, &r) != 0;
  out->vmm = attribute(device, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, &r) != 0 &&
             FLEXLOM_ORIGINAL(cuMemCreate) != nullptr;
  out->host_vmm = out->vmm && probe_host(device, &probed, &r);
  // A question that failed for a passing reason must not decide for the life of the process.
  if (r != CUDA_SUCCESS) return r;
  out->host_numa_id = probed.host_numa_id;
  out->shareable = probed.shareable;
  out->total_bytes = total;
  out->free_bytes = available;
  probed_[device] = probed;
  return CUDA_SUCCESS;
}

CUresult RealDriver::reserve(CUdeviceptr hint, size_t bytes, CUdeviceptr* base) noexcept {
  return CALL(cuMemAddressReserve, base, bytes, pool::kGranule, hint, 0);
}

CUresult RealDriver::unreserve(CUdeviceptr base, size_t bytes) noexcept {
  return CALL(cuMemAddressFree, base, bytes);
}

CUresult RealDriver::create(int device, Where where, size_t bytes,
                            CUmemGenericAllocationHandle* frame) noexcept {
  const CUmemAllocationProp prop = properties(device, where, probed_[device]);
  return CALL(cuMemCreate, frame, bytes, &prop, 0);
}

CUresult RealDriver::release(CUmemGenericAllocationHandle frame) noexcept {
  return CALL(cuMemRelease, frame);
}

CUresult RealDriver::map(CUdeviceptr address, size_t bytes,
                         CUmemGenericAllocationHandle frame) noexcept {
  return CALL(cuMemMap, address, bytes, 0, frame, 0);
}

CUresult RealDriver::unmap(CUdeviceptr address, size_t bytes) noexcept {
  return CALL(cuMemUnmap, address, bytes);
}

CUresult RealDriver::set_access(CUdeviceptr address, size_t bytes, int device) noexcept {
  CUmemAccessDesc access{};
  access.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  access.location.id = device;
  access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  return CALL(cuMemSetAccess, address, bytes, &access, 1);
}

bool RealDriver::has_context_events() noexcept {
  return FLEXLOM_ORIGINAL(cuCtxRecordEvent) != nullptr;
}

CUresult RealDriver::event_create(CUcontext context, CUevent* event) noexcept {
  CUresult r = CALL(cuCtxPushCurrent_v2, context);
  if (r != CUDA_SUCCESS) return r;
  r = CALL(cuEventCreate, event, CU_EVENT_DISABLE_TIMING);
  CUcontext popped = nullptr;
  CALL(cuCtxPopCurrent_v2, &popped);
  return r;
}

void RealDriver::event_destroy(CUcontext, CUevent event) noexcept {
  CALL(cuEventDestroy_v2, event);
}

CUresult RealDriver::record(CUcontext context, CUevent event) noexcept {
  return CALL(cuCtxRecordEvent, context, event);
}

CUresult RealDriver::query(CUevent event) noexcept { return CALL(cuEventQuery, event); }

CUresult RealDriver::synchronize(CUcontext context) noexcept {
  CUresult r = CALL(cuCtxPushCurrent_v2, context);
  if (r != CUDA_SUCCESS) return r;
  r = CALL(cuCtxSynchronize);
  CUcontext popped = nullptr;
  CALL(cuCtxPopCurrent_v2, &popped);
  return r;
}

namespace {

// The context is current for as long as this lives.
class Current {
 public:
  explicit Current(CUcontext context) noexcept : result_(CALL(cuCtxPushCurrent_v2, context)) {}
  ~Current() {
    CUcontext popped = nullptr;
    if (result_ == CUDA_SUCCESS) CALL(cuCtxPopCurrent_v2, &popped);
  }
  Current(const Current&) = delete;
  Current& operator=(const Current&) = delete;
  CUresult result() const noexcept { return result_; }

 private:
  const CUresult result_;
};

}  // namespace

int RealDriver::device_of(CUcontext context) noexcept {
  const Current current(context);
  CUdevice device = -1;
  if (current.result() != CUDA_SUCCESS) return -1;
  return CALL(cuCtxGetDevice, &device) == CUDA_SUCCESS ? device : -1;
}

bool RealDriver::can_reach(int device, int other) noexcept {
  int can = 0;
  return CALL(cuDeviceCanAccessPeer, &can, device, other) == CUDA_SUCCESS && can != 0;
}

CUresult RealDriver::stream_create(CUcontext context, CUstream* stream) noexcept {
  const Current current(context);
  if (current.result() != CUDA_SUCCESS) return current.result();
  // What we run beside the program is short, and the program waits for it.
  int lowest = 0, highest = 0;  // where the range is not told, 0 is the default
  CALL(cuCtxGetStreamPriorityRange, &lowest, &highest);
  return CALL(cuStreamCreateWithPriority, stream, CU_STREAM_NON_BLOCKING, highest);
}

void RealDriver::stream_destroy(CUcontext context, CUstream stream) noexcept {
  const Current current(context);
  // Our streams go when their context is about to.
  fingerprints_.release_context(context);
  CALL(cuStreamDestroy_v2, stream);
}

pool::Fingerprint* RealDriver::mark_buffer(CUcontext context, size_t* count) noexcept {
  const Current current(context);
  return fingerprints_.results(context, count);
}

CUresult RealDriver::fingerprint(CUcontext context, CUstream stream, const pool::PageRange* pages,
                                 size_t count, CUdeviceptr scratch,
                                 pool::Fingerprint* marks) noexcept {
  const Current current(context);
  return current.result() == CUDA_SUCCESS ? fingerprints_.run(stream, pages, count, scratch, marks)
                                          : current.result();
}

CUresult RealDriver::copy(CUcontext context, CUstream stream, CUdeviceptr to, CUdeviceptr from,
                          size_t bytes) noexcept {
  const Current current(context);
  return current.result() == CUDA_SUCCESS ? CALL(cuMemcpyAsync, to, from, bytes, stream)
                                          : current.result();
}

CUresult RealDriver::record_on(CUcontext context, CUstream stream, CUevent event) noexcept {
  const Current current(context);
  return current.result() == CUDA_SUCCESS ? CALL(cuEventRecord, event, stream) : current.result();
}

CUresult RealDriver::wait_on(CUcontext context, CUstream stream, CUevent event) noexcept {
  const Current current(context);
  return current.result() == CUDA_SUCCESS ? CALL(cuStreamWaitEvent, stream, event, 0u)
                                          : current.result();
}

#undef CALL

}  // namespace flexlom
