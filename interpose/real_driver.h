// The pool's driver over the original entry points. Stateless but for what it probed of each
// device.
#pragma once

#include "interpose/fingerprints.h"
#include "pool/driver.h"

namespace flexlom {

class RealDriver final : public pool::Driver {
 public:
  CUresult facts(int device, pool::DeviceFacts* out) noexcept override;
  CUresult reserve(CUdeviceptr hint, size_t bytes, CUdeviceptr* base) noexcept override;
  CUresult unreserve(CUdeviceptr base, size_t bytes) noexcept override;
  CUresult create(int device, pool::Where where, size_t bytes,
                  CUmemGenericAllocationHandle* frame) noexcept override;
  CUresult release(CUmemGenericAllocationHandle frame) noexcept override;
  CUresult map(CUdeviceptr address, size_t bytes,
               CUmemGenericAllocationHandle frame) noexcept override;
  CUresult unmap(CUdeviceptr address, size_t bytes) noexcept override;
  CUresult set_access(CUdeviceptr address, size_t bytes, int device) noexcept override;
  bool has_context_events() noexcept override;
  CUresult event_create(CUcontext context, CUevent* event) noexcept override;
  void event_destroy(CUcontext context, CUevent event) noexcept override;
  CUresult record(CUcontext context, CUevent event) noexcept override;
  CUresult query(CUevent event) noexcept override;
  CUresult synchronize(CUcontext context) noexcept override;
  int device_of(CUcontext context) noexcept override;
  bool can_reach(int device, int other) noexcept override;
  CUresult stream_create(CUcontext context, CUstream* stream) noexcept override;
  void stream_destroy(CUcontext context, CUstream stream) noexcept override;
  CUresult copy(CUcontext context, CUstream stream, CUdeviceptr to, CUdeviceptr from,
                size_t bytes) noexcept override;
  CUresult record_on(CUcontext context, CUstream stream, CUevent event) noexcept override;
  CUresult wait_on(CUcontext context, CUstream stream, CUevent event) noexcept override;
  pool::Fingerprint* mark_buffer(CUcontext context, size_t* count) noexcept override;
  CUresult fingerprint(CUcontext context, CUstream stream, const pool::PageRange* pages,
                       size_t count, CUdeviceptr scratch,
                       pool::Fingerprint* marks) noexcept override;

 private:
  struct Probed {
    bool shareable = false;
    bool rdma = false;
    int host_numa_id = -1;  // -1: plain HOST location
  };
  static CUmemAllocationProp properties(int device, pool::Where where, const Probed& probed);
  bool probe_host(int device, Probed* probed, CUresult* error) noexcept;

  static constexpr int kDevices = 64;
  Fingerprints fingerprints_;
  Probed probed_[kDevices];  // written by facts(), before any frame of that device is made
};

}  // namespace flexlom
