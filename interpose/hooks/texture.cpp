// Texture objects over linear memory (CUDA Driver API 6.25 "Texture Object Management"): kernels
// are given a handle, and reach memory that they do not name.
#include "interpose/hooks/common.h"
#include "interpose/watch.h"

namespace flexlom::own {

CUresult cuTexObjectCreate(CUtexObject* object, const CUDA_RESOURCE_DESC* resource,
                           const CUDA_TEXTURE_DESC* texture, const CUDA_RESOURCE_VIEW_DESC* view) {
  Runtime* rt = enter(Entry::cuTexObjectCreate);
  CUdeviceptr address = 0;
  if (rt != nullptr && resource != nullptr) {
    if (resource->resType == CU_RESOURCE_TYPE_LINEAR) address = resource->res.linear.devPtr;
    if (resource->resType == CU_RESOURCE_TYPE_PITCH2D) address = resource->res.pitch2D.devPtr;
  }
  if (address != 0) Watch::reached_unnamed(*rt, &address, 1);
  return FORWARD(cuTexObjectCreate, object, resource, texture, view);
}

}  // namespace flexlom::own
