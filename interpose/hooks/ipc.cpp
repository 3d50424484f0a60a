#include "interpose/hooks/common.h"

namespace flexlom::own {

CUresult cuIpcGetMemHandle(CUipcMemHandle* handle, CUdeviceptr p) {
  doors::count(Entry::cuIpcGetMemHandle);
  return FORWARD(cuIpcGetMemHandle, handle, p);
}
CUresult cuIpcOpenMemHandle(CUdeviceptr* p, CUipcMemHandle handle, unsigned int flags) {
  doors::count(Entry::cuIpcOpenMemHandle);
  return FORWARD(cuIpcOpenMemHandle, p, handle, flags);
}
CUresult cuIpcOpenMemHandle_v2(CUdeviceptr* p, CUipcMemHandle handle, unsigned int flags) {
  doors::count(Entry::cuIpcOpenMemHandle_v2);
  return FORWARD(cuIpcOpenMemHandle_v2, p, handle, flags);
}
CUresult cuIpcCloseMemHandle(CUdeviceptr p) {
  doors::count(Entry::cuIpcCloseMemHandle);
  return FORWARD(cuIpcCloseMemHandle, p);
}

}  // namespace flexlom::own
