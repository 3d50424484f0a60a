// Arrays: made, copied to and from, described, destroyed.
#include <algorithm>
#include <vector>

#include "tests/simcuda/testing.hpp"

using namespace testing;

TEST_CASE("what goes into an array comes out again") {
  Session session;
  const CUDA_ARRAY_DESCRIPTOR shape{100, 7, CU_AD_FORMAT_UNSIGNED_INT16, 2};
  CUarray array = nullptr;
  CHECK(cuArrayCreate(nullptr, &shape) == CUDA_ERROR_INVALID_VALUE);
  REQUIRE_OK(cuArrayCreate(&array, &shape));
  CHECK(simcuda_device_bytes(0) > 0);

  std::vector<unsigned char> in(400 * 7), out(500 * 7);
  for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<unsigned char>(i * 7);
  CUDA_MEMCPY2D copy{};
  copy.srcMemoryType = CU_MEMORYTYPE_HOST;
  copy.srcHost = in.data();
  copy.srcPitch = copy.WidthInBytes = 400;
  copy.dstMemoryType = CU_MEMORYTYPE_ARRAY;
  copy.dstArray = array;
  copy.Height = 7;
  REQUIRE_OK(cuMemcpy2D(&copy));
  CUDA_MEMCPY2D back{};
  back.srcMemoryType = CU_MEMORYTYPE_ARRAY;
  back.srcArray = array;
  back.srcY = 2;
  back.dstMemoryType = CU_MEMORYTYPE_HOST;
  back.dstHost = out.data();
  back.dstPitch = 500;
  back.WidthInBytes = 400;
  back.Height = 5;
  REQUIRE_OK(cuMemcpy2D(&back));
  CHECK(std::equal(in.begin() + 800, in.begin() + 1200, out.begin()));
  CHECK(std::equal(in.begin() + 2400, in.end(), out.begin() + 2000));
  back.Height = 6;
  CHECK(cuMemcpy2D(&back) == CUDA_ERROR_INVALID_VALUE);

  CUDA_ARRAY_DESCRIPTOR told{};
  CHECK_OK(cuArrayGetDescriptor(&told, array));
  CHECK(told.Width == 100);
  CHECK(told.NumChannels == 2);
  CHECK_OK(cuArrayDestroy(array));
  CHECK(cuArrayDestroy(array) == CUDA_ERROR_INVALID_HANDLE);
  CHECK(simcuda_device_bytes(0) == 0);
}

TEST_CASE("texture objects remember what they were made from") {
  Session session;
  Memory memory(4096);
  CUDA_RESOURCE_DESC resource{};
  resource.resType = CU_RESOURCE_TYPE_LINEAR;
  resource.res.linear.devPtr = memory.address;
  resource.res.linear.format = CU_AD_FORMAT_FLOAT;
  resource.res.linear.numChannels = 1;
  resource.res.linear.sizeInBytes = 8192;
  const CUDA_TEXTURE_DESC texture{};
  CUtexObject object = 0;
  CHECK(cuTexObjectCreate(&object, &resource, &texture, nullptr) == CUDA_ERROR_INVALID_VALUE);
  resource.res.linear.sizeInBytes = 4096;
  REQUIRE_OK(cuTexObjectCreate(&object, &resource, &texture, nullptr));
  CUDA_RESOURCE_DESC told{};
  CHECK_OK(cuTexObjectGetResourceDesc(&told, object));
  CHECK(told.res.linear.devPtr == memory.address);
  CHECK_OK(cuTexObjectDestroy(object));
  CHECK(cuTexObjectDestroy(object) == CUDA_ERROR_INVALID_VALUE);
}
