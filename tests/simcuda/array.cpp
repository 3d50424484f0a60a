// Arrays, and what describes memory to kernels: texture objects and tensor maps. No kernel of this
// driver samples a texture: the objects only keep what they were made from.
#include "tests/simcuda/array.hpp"

#include <algorithm>
#include <unordered_map>

#include "tests/simcuda/address_space.hpp"
#include "tests/simcuda/capture.hpp"
#include "tests/simcuda/memory.hpp"

namespace flexlom::sim {
namespace {

std::unordered_map<CUarray, Array>& arrays() {  // guarded by memory_lock
  static auto* const all = new std::unordered_map<CUarray, Array>;
  return *all;
}
std::unordered_map<CUtexObject, CUDA_RESOURCE_DESC>& textures() {  // guarded by memory_lock
  static auto* const all = new std::unordered_map<CUtexObject, CUDA_RESOURCE_DESC>;
  return *all;
}

size_t channel_bytes(CUarray_format format) {
  switch (format) {
    case CU_AD_FORMAT_UNSIGNED_INT8:
    case CU_AD_FORMAT_SIGNED_INT8:
      return 1;
    case CU_AD_FORMAT_UNSIGNED_INT16:
    case CU_AD_FORMAT_SIGNED_INT16:
    case CU_AD_FORMAT_HALF:
      return 2;
    case CU_AD_FORMAT_UNSIGNED_INT32:
    case CU_AD_FORMAT_SIGNED_INT32:
    case CU_AD_FORMAT_FLOAT:
      return 4;
    default:
      fail(CUDA_ERROR_NOT_SUPPORTED);
  }
}

size_t element_bytes(CUarray_format format, unsigned channels) {
  require(channels == 1 || channels == 2 || channels == 4);
  return channels * channel_bytes(format);
}

CUresult array_3d_create(Call&, CUarray* out, const CUDA_ARRAY3D_DESCRIPTOR* shape) {
  require(out && shape && shape->Width);
  Context& context = current_context();
  refuse_unsafe_in_capture();
  constexpr size_t kLongest = 131072;  // of every side, as on the GPU this one takes after
  require(shape->Width <= kLongest && shape->Height <= kLongest && shape->Depth <= kLongest);
  require(!shape->Flags, CUDA_ERROR_NOT_SUPPORTED);
  Array array;
  array.shape = *shape;
  array.context = &context;
  array.row_bytes = shape->Width * element_bytes(shape->Format, shape->NumChannels);
  const size_t rows = std::max<size_t>(shape->Height, 1) * std::max<size_t>(shape->Depth, 1);
  array.address = allocate(context, array.row_bytes * rows, Kind::device, nullptr);
  std::lock_guard guard(state().memory_lock);
  array.allocation_id = allocation_at(array.address)->id;
  const auto handle = reinterpret_cast<CUarray>(0x61000000000 + array.allocation_id * 16);
  arrays().emplace(handle, array);
  *out = handle;
  return CUDA_SUCCESS;
}
CUresult array_create(Call& c, CUarray* out, const CUDA_ARRAY_DESCRIPTOR* flat) {
  require(flat);
  const CUDA_ARRAY3D_DESCRIPTOR shape{flat->Width,  flat->Height,      0,
                                      flat->Format, flat->NumChannels, 0};
  return array_3d_create(c, out, &shape);
}

CUresult array_3d_get_descriptor(Call&, CUDA_ARRAY3D_DESCRIPTOR* out, CUarray handle) {
  require(out);
  *out = array_of(handle).shape;
  return CUDA_SUCCESS;
}
CUresult array_get_descriptor(Call&, CUDA_ARRAY_DESCRIPTOR* out, CUarray handle) {
  require(out);
  const CUDA_ARRAY3D_DESCRIPTOR shape = array_of(handle).shape;
  *out = {shape.Width, shape.Height, shape.Format, shape.NumChannels};
  return CUDA_SUCCESS;
}

CUresult array_destroy(Call&, CUarray handle) {
  const Array array = array_of(handle);
  refuse_unsafe_in_capture();
  drain(*array.context);
  std::lock_guard guard(state().memory_lock);
  require(arrays().erase(handle) == 1, CUDA_ERROR_INVALID_HANDLE);
  Allocation* memory = allocation_at(array.address);
  if (memory && memory->id == array.allocation_id) remove(*memory);
  return CUDA_SUCCESS;
}

void check_resource(const CUDA_RESOURCE_DESC& resource) {
  switch (resource.resType) {
    case CU_RESOURCE_TYPE_ARRAY:
      array_of(resource.res.array.hArray);
      return;
    case CU_RESOURCE_TYPE_LINEAR: {
      const auto& linear = resource.res.linear;
      element_bytes(linear.format, linear.numChannels);
      check_range(linear.devPtr, linear.sizeInBytes, true);
      return;
    }
    case CU_RESOURCE_TYPE_PITCH2D: {
      const auto& p = resource.res.pitch2D;
      const size_t row = p.width * element_bytes(p.format, p.numChannels);
      require(p.width && p.height && p.pitchInBytes >= row);
      require(p.height <= kMaxReservation / p.pitchInBytes);
      check_range(p.devPtr, (p.height - 1) * p.pitchInBytes + row, true);
      return;
    }
    default:
      fail(CUDA_ERROR_NOT_SUPPORTED);
  }
}

CUresult texture_create(Call&, CUtexObject* out, const CUDA_RESOURCE_DESC* resource,
                        const CUDA_TEXTURE_DESC* texture, const CUDA_RESOURCE_VIEW_DESC*) {
  require(out && resource && texture);
  current_context();
  check_resource(*resource);
  std::lock_guard guard(state().memory_lock);
  *out = state().next_id++;
  textures().emplace(*out, *resource);
  return CUDA_SUCCESS;
}
CUresult texture_destroy(Call&, CUtexObject object) {
  std::lock_guard guard(state().memory_lock);
  require(textures().erase(object) == 1);
  return CUDA_SUCCESS;
}
CUresult texture_get_resource(Call&, CUDA_RESOURCE_DESC* out, CUtexObject object) {
  require(out);
  std::lock_guard guard(state().memory_lock);
  const auto found = textures().find(object);
  require(found != textures().end());
  *out = found->second;
  return CUDA_SUCCESS;
}

// The real map packs everything into its 128 bytes; programs may count on the address at its front.
CUresult tensor_map_encode(Call&, CUtensorMap* out, CUtensorMapDataType, cuuint32_t rank,
                           void* address, const cuuint64_t* dims, const cuuint64_t* strides,
                           const cuuint32_t* box, const cuuint32_t* steps, CUtensorMapInterleave,
                           CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
  require(out && rank >= 1 && rank <= 5 && address && dims && box && steps);
  require(rank == 1 || strides);
  require(reinterpret_cast<uintptr_t>(address) % 16 == 0);
  *out = {};
  out->opaque[0] = reinterpret_cast<cuuint64_t>(address);
  return CUDA_SUCCESS;
}

}  // namespace

Array array_of(CUarray handle) {
  std::lock_guard guard(state().memory_lock);
  const auto found = arrays().find(handle);
  require(found != arrays().end(), CUDA_ERROR_INVALID_HANDLE);
  return found->second;
}

}  // namespace flexlom::sim

using namespace flexlom::sim;
SIM_EXPORT(cuArrayCreate_v2, array_create);
SIM_EXPORT(cuArray3DCreate_v2, array_3d_create);
SIM_EXPORT(cuArrayGetDescriptor_v2, array_get_descriptor);
SIM_EXPORT(cuArray3DGetDescriptor_v2, array_3d_get_descriptor);
SIM_EXPORT(cuArrayDestroy, array_destroy);
SIM_EXPORT(cuTexObjectCreate, texture_create);
SIM_EXPORT(cuTexObjectDestroy, texture_destroy);
SIM_EXPORT(cuTexObjectGetResourceDesc, texture_get_resource);
SIM_EXPORT(cuTensorMapEncodeTiled, tensor_map_encode);
