#include "tests/simcuda/testing.hpp"

#include <numeric>

using namespace testing;

namespace {
std::vector<uint8_t> pattern(size_t bytes) {
  std::vector<uint8_t> v(bytes);
  std::iota(v.begin(), v.end(), uint8_t{3});
  return v;
}
std::vector<uint8_t> read(CUdeviceptr from, size_t bytes) {
  std::vector<uint8_t> v(bytes);
  REQUIRE_OK(cuMemcpyDtoH(v.data(), from, bytes));
  return v;
}
}  // namespace

TEST_CASE("linear copies in every direction") {
  Session session;
  Memory a(5000), b(5000);
  Stream stream(CU_STREAM_NON_BLOCKING);
  const std::vector<uint8_t> data = pattern(5000);
  std::vector<uint8_t> back(5000);
  CHECK_OK(cuMemcpyHtoD(a.address, data.data(), 5000));
  CHECK_OK(cuMemcpyDtoD(b.address, a.address, 5000));
  CHECK(read(b.address, 5000) == data);
  CHECK_OK(cuMemcpy(a.address + 1, b.address, 4999));
  CHECK(read(a.address + 1, 4999) == std::vector<uint8_t>(data.begin(), data.end() - 1));
  CHECK_OK(cuMemcpyHtoDAsync(a.address, data.data(), 5000, stream.handle));
  CHECK_OK(cuMemcpyDtoDAsync(b.address, a.address, 5000, stream.handle));
  CHECK_OK(cuMemcpyDtoHAsync(back.data(), b.address, 5000, stream.handle));
  CHECK_OK(cuMemcpyAsync(a.address, b.address, 5000, stream.handle));
  CHECK_OK(cuStreamSynchronize(stream.handle));
  CHECK(back == data);
  CHECK_OK(cuMemcpyHtoD(a.address, data.data(), 0));
}

TEST_CASE("copies refuse addresses that are not device memory") {
  Session session;
  Memory a(1000);
  std::vector<uint8_t> host(2000);
  CHECK(cuMemcpyHtoD(0x10000, host.data(), 10) == CUDA_ERROR_INVALID_VALUE);
  CHECK(cuMemcpyDtoH(host.data(), a.address, 1001) == CUDA_ERROR_INVALID_VALUE);
  CHECK(cuMemcpyDtoH(host.data(), a.address + 999, 2) == CUDA_ERROR_INVALID_VALUE);
  CHECK(cuMemcpyHtoD(a.address, nullptr, 10) == CUDA_ERROR_INVALID_VALUE);
  CHECK(cuMemsetD8(a.address, 0, 1001) == CUDA_ERROR_INVALID_VALUE);
  CHECK(cuMemsetD32(a.address + 1, 0, 1) == CUDA_ERROR_INVALID_VALUE);
}

TEST_CASE("2D and 3D copies") {
  Session session;
  const std::vector<uint8_t> data = pattern(64 * 6);
  Memory d(64 * 6);
  CHECK_OK(cuMemsetD8(d.address, 0, 64 * 6));
  CUDA_MEMCPY2D two{};
  two.srcMemoryType = CU_MEMORYTYPE_HOST;
  two.srcHost = data.data();
  two.srcPitch = 64;
  two.srcXInBytes = 3;
  two.srcY = 1;
  two.dstMemoryType = CU_MEMORYTYPE_DEVICE;
  two.dstDevice = d.address;
  two.dstPitch = 32;
  two.dstY = 2;
  two.WidthInBytes = 10;
  two.Height = 4;
  CHECK_OK(cuMemcpy2D(&two));
  std::vector<uint8_t> got = read(d.address, 64 * 6);
  for (size_t y = 0; y < 4; ++y)
    for (size_t x = 0; x < 10; ++x) CHECK(got[(y + 2) * 32 + x] == data[(y + 1) * 64 + 3 + x]);
  CHECK(got[2 * 32 + 10] == 0);
  two.WidthInBytes = 100;
  CHECK(cuMemcpy2D(&two) == CUDA_ERROR_INVALID_VALUE);

  CUDA_MEMCPY3D three{};
  three.srcMemoryType = CU_MEMORYTYPE_HOST;
  three.srcHost = data.data();
  three.srcPitch = 16;
  three.srcHeight = 4;
  three.dstMemoryType = CU_MEMORYTYPE_UNIFIED;
  three.dstDevice = d.address;
  three.dstPitch = 8;
  three.dstHeight = 3;
  three.WidthInBytes = 8;
  three.Height = 3;
  three.Depth = 2;
  CHECK_OK(cuMemcpy3D(&three));
  got = read(d.address, 48);
  for (size_t z = 0; z < 2; ++z)
    for (size_t y = 0; y < 3; ++y)
      CHECK(memcmp(&got[(z * 3 + y) * 8], &data[(z * 4 + y) * 16], 8) == 0);
}

TEST_CASE("memsets") {
  Session session;
  Memory d(4096);
  CHECK_OK(cuMemsetD8(d.address, 0x11, 4096));
  CHECK_OK(cuMemsetD16(d.address, 0x2233, 4));
  CHECK_OK(cuMemsetD32(d.address + 8, 0x44556677, 2));
  CHECK_OK(cuMemsetD2D8(d.address + 1024, 64, 0x99, 2, 3));
  CHECK_OK(cuMemsetD32Async(d.address + 2048, 5, 3, nullptr));
  const std::vector<uint8_t> got = read(d.address, 4096);
  CHECK(got[0] == 0x33);
  CHECK(got[7] == 0x22);
  CHECK(got[8] == 0x77);
  CHECK(got[15] == 0x44);
  CHECK(got[16] == 0x11);
  CHECK(got[1024 + 128 + 1] == 0x99);
  CHECK(got[1024 + 128 + 2] == 0x11);
  CHECK(got[2048 + 8] == 5);
}

TEST_CASE("peers") {
  Session session;
  CUcontext other = nullptr;
  int can = 0;
  CHECK_OK(cuDeviceCanAccessPeer(&can, 0, 1));
  CHECK(can == 1);
  REQUIRE_OK(cuDevicePrimaryCtxRetain(&other, 1));
  CHECK(cuCtxDisablePeerAccess(other) == CUDA_ERROR_PEER_ACCESS_NOT_ENABLED);
  CHECK_OK(cuCtxEnablePeerAccess(other, 0));
  CHECK(cuCtxEnablePeerAccess(other, 0) == CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED);
  CHECK_OK(cuCtxSetCurrent(other));
  Memory there(100);
  CHECK(simcuda_device_bytes(1) == kPage);
  CHECK_OK(cuMemsetD8(there.address, 9, 100));
  CHECK_OK(cuCtxSynchronize());
  CHECK_OK(cuCtxSetCurrent(session.context));
  Memory here(100);
  CHECK_OK(cuMemcpyPeer(here.address, session.context, there.address, other, 100));
  CHECK(read(here.address, 100) == std::vector<uint8_t>(100, 9));
  CHECK_OK(cuCtxDisablePeerAccess(other));
  CHECK_OK(cuMemFree(there.address));
  there.address = 0;
  CHECK_OK(cuDevicePrimaryCtxRelease(1));
}
