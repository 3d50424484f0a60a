// Unloading of code: what was learned about its functions goes first, because the driver may give
// their handles to others at once (CUDA Driver API 6.11 and 6.12).
#include "interpose/heat/layout.h"
#include "interpose/hooks/common.h"

namespace flexlom {

namespace {

// Frees memory and waits for it, so it passes the gate like a submission.
template <class Real>
CUresult unload(Entry entry, Real real) {
  if (enter(entry) != nullptr) heat::forget_handles();
  const doors::Submission submission;
  return real();
}

}  // namespace

namespace own {

CUresult cuModuleUnload(CUmodule module) {
  return unload(Entry::cuModuleUnload, [&] { return FORWARD(cuModuleUnload, module); });
}
CUresult cuLibraryUnload(CUlibrary library) {
  return unload(Entry::cuLibraryUnload, [&] { return FORWARD(cuLibraryUnload, library); });
}

}  // namespace own
}  // namespace flexlom
