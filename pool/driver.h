// The driver as the pool sees it: the few calls it needs, and nothing else.
//
// Implemented over the real entry points by interpose/, and over fakes by the tests. No call may
// throw. Unless said otherwise a call may be made from any thread, with or without a current
// context (CUDA Driver API 6.14 "Virtual Memory Management": none of these needs one).
#pragma once

#include "pool/types.h"

namespace flexlom::pool {

struct DeviceFacts {
  bool vmm = false;        // CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED
  bool host_vmm = false;   // host frames can be created and mapped (probed, not believed)
  int host_numa_id = -1;   // node for HOST_NUMA frames; -1: use a plain HOST location
  bool shareable = false;  // device frames can be exported as POSIX file descriptors
  uint64_t total_bytes = 0;
  uint64_t free_bytes = 0;
};

struct Fingerprint {
  uint64_t words[2] = {0, 0};
  bool operator==(const Fingerprint&) const = default;
};

struct PageRange {
  CUdeviceptr address;
  size_t bytes;
};

class Driver {
 public:
  virtual ~Driver() = default;

  // Answers for the device of the current context; for another one it is an error, and may be asked
  // again.
  virtual CUresult facts(int device, DeviceFacts* out) noexcept = 0;

  // Address space. `hint` may be 0; the driver may ignore it. Nothing is accessible until mapped.
  virtual CUresult reserve(CUdeviceptr hint, size_t bytes, CUdeviceptr* base) noexcept = 0;
  virtual CUresult unreserve(CUdeviceptr base, size_t bytes) noexcept = 0;

  // Frames. `bytes` is a multiple of kGranule. The creation reference is what release() drops;
  // memory goes back to the driver when it is both released and unmapped.
  virtual CUresult create(int device, Where where, size_t bytes,
                          CUmemGenericAllocationHandle* frame) noexcept = 0;
  virtual CUresult release(CUmemGenericAllocationHandle frame) noexcept = 0;

  // Mappings. One page at a time, offset 0 (partial maps are NOT_SUPPORTED on real drivers);
  // a new mapping has no access until set_access().
  virtual CUresult map(CUdeviceptr address, size_t bytes,
                       CUmemGenericAllocationHandle frame) noexcept = 0;
  virtual CUresult unmap(CUdeviceptr address, size_t bytes) noexcept = 0;
  virtual CUresult set_access(CUdeviceptr address, size_t bytes, int device) noexcept = 0;

  // Fences (CUDA Driver API 6.8 cuCtxRecordEvent: all work of the context at the time of the call).
  virtual bool has_context_events() noexcept = 0;
  virtual CUresult event_create(CUcontext context, CUevent* event) noexcept = 0;
  virtual void event_destroy(CUcontext context, CUevent event) noexcept = 0;
  virtual CUresult record(CUcontext context, CUevent event) noexcept = 0;
  virtual CUresult query(CUevent event) noexcept = 0;  // SUCCESS, NOT_READY, or an error
  virtual CUresult synchronize(
      CUcontext context) noexcept = 0;  // waits; for drivers without record()

  // The device of a context; -1: not known, it is then nobody's. The current context stays.
  virtual int device_of(CUcontext) noexcept { return 0; }
  // Whether `device` can be given access to the device frames of `other` (CUDA Driver API 6.17,
  // cuDeviceCanAccessPeer). Host frames can be reached by every device.
  virtual bool can_reach(int device, int other) noexcept { return false; }

  // Our own copies (CUDA Driver API 6.5 cuMemcpyAsync): on streams that no default stream waits
  // for. A driver that answers NOT_SUPPORTED moves nothing. Streams end with their context.
  virtual CUresult stream_create(CUcontext, CUstream*) noexcept { return CUDA_ERROR_NOT_SUPPORTED; }
  virtual void stream_destroy(CUcontext, CUstream) noexcept {}
  virtual CUresult copy(CUcontext, CUstream, CUdeviceptr to, CUdeviceptr from,
                        size_t bytes) noexcept {
    return CUDA_ERROR_NOT_SUPPORTED;
  }
  virtual CUresult record_on(CUcontext, CUstream, CUevent) noexcept {
    return CUDA_ERROR_NOT_SUPPORTED;
  }
  // Makes a stream of ours wait for an event of ours (CUDA Driver API 6.18 cuStreamWaitEvent).
  virtual CUresult wait_on(CUcontext, CUstream, CUevent) noexcept {
    return CUDA_ERROR_NOT_SUPPORTED;
  }

  // Fingerprints of pages (kernels/fingerprint.h), written to `marks` when the stream gets there.
  // `marks` lies in the mark_buffer() of the same context, which both the processor and the device
  // can reach, and which ends with the first of the context's streams that is destroyed; null: no
  // fingerprints, every page is taken for changed.
  virtual Fingerprint* mark_buffer(CUcontext, size_t* count) noexcept {
    *count = 0;
    return nullptr;
  }
  // `scratch`: kFingerprintScratchBytes of device memory that no other stream uses meanwhile.
  static constexpr size_t kFingerprintScratchBytes = 4096;
  virtual CUresult fingerprint(CUcontext, CUstream, const PageRange* pages, size_t count,
                               CUdeviceptr scratch, Fingerprint* marks) noexcept {
    return CUDA_ERROR_NOT_SUPPORTED;
  }
};

}  // namespace flexlom::pool
