// Private addresses for our own copies: a host frame is mapped here as well as (or instead of) at
// the program's address, so that a page can be filled or saved while its public address is backed
// by another frame (CUDA Driver API 6.14: one handle may be mapped at several addresses).
//
// Mapping a host frame costs about 9 us per MiB, so a frame keeps its window for life.
// Guarded by the device's mutex.
#pragma once

#include <memory>

#include "pool/address_space.h"
#include "pool/driver.h"

namespace flexlom::pool {

class Windows {
 public:
  // `hint`: where the range is wanted; 0: anywhere.
  Windows(Driver& driver, int device, CUdeviceptr hint)
      : driver_(driver), device_(device), hint_(hint) {}
  ~Windows();
  Windows(const Windows&) = delete;
  Windows& operator=(const Windows&) = delete;

  // Maps the frame for the device and sets `frame->window`; nothing to do when it has one. The
  // address range is reserved at the first call.
  CUresult open(unsigned order, Frame* frame);
  // False: the frame stays mapped, and must not be used for anything else.
  bool close(unsigned order, Frame* frame) noexcept;

 private:
  Driver& driver_;
  const int device_;
  const CUdeviceptr hint_;
  std::unique_ptr<AddressSpace> space_;
};

}  // namespace flexlom::pool
