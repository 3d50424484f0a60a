#include "tests/simcuda/testing.hpp"

#include <dlfcn.h>

using namespace testing;

namespace {
struct Answer {
  void* address = nullptr;
  CUdriverProcAddressQueryResult status{};
};
Answer ask(const char* name, int version, cuuint64_t flags = 0) {
  Answer a;
  INFO(name);
  CHECK_OK(cuGetProcAddress_v2(name, &a.address, version, flags, &a.status));
  return a;
}
void* symbol(const char* name) {
  void* found = dlsym(RTLD_DEFAULT, name);
  INFO(name);
  CHECK(found != nullptr);
  return found;
}
}  // namespace

TEST_CASE("cuGetProcAddress gives exported symbols by version and flavour") {
  CHECK(ask("cuMemAlloc", 3000).address == symbol("cuMemAlloc"));
  CHECK(ask("cuMemAlloc", 3020).address == symbol("cuMemAlloc_v2"));
  CHECK(ask("cuMemAlloc", 99990).address == symbol("cuMemAlloc_v2"));
  CHECK(ask("cuGetProcAddress", 11030).address == symbol("cuGetProcAddress"));
  CHECK(ask("cuGetProcAddress", 12000).address == symbol("cuGetProcAddress_v2"));
  CHECK(ask("cuGraphInstantiate", 13000).address == symbol("cuGraphInstantiate_v2"));
  CHECK(ask("cuCtxCreate", 11040).address == symbol("cuCtxCreate_v3"));
  CHECK(ask("cuCtxCreate", 13000).address == symbol("cuCtxCreate_v4"));
  CHECK(ask("cuLaunchKernel", 13000).address == symbol("cuLaunchKernel"));
  CHECK(ask("cuLaunchKernel", 13000, 2).address == symbol("cuLaunchKernel_ptsz"));
  CHECK(ask("cuLaunchKernel", 13000, 3).address == symbol("cuLaunchKernel_ptsz"));
  CHECK(ask("cuMemcpyHtoD", 7000, 2).address == symbol("cuMemcpyHtoD_v2_ptds"));
  CHECK(ask("cuMemAlloc", 13000, 2).address == symbol("cuMemAlloc_v2"));
  const Answer early = ask("cuMemcpyHtoD", 6050, 2);
  CHECK(early.address == nullptr);
  CHECK(early.status == CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT);
}

TEST_CASE("names with a suffix and unknown names are not found") {
  for (const char* name :
       {"cuMemAlloc_v2", "cuLaunchKernel_ptsz", "cuGetProcAddress_v2", "cuNone"}) {
    const Answer a = ask(name, 13000);
    CHECK(a.address == nullptr);
    CHECK(a.status == CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
  }
  auto v1 = reinterpret_cast<CUresult (*)(const char*, void**, int, cuuint64_t)>(
      symbol("cuGetProcAddress"));
  void* found = &v1;
  CHECK(v1("cuNone", &found, 13000, 0) == CUDA_ERROR_NOT_FOUND);
  CHECK(found == nullptr);
  CHECK_OK(v1("cuMemFree", &found, 13000, 0));
  CHECK(found == symbol("cuMemFree_v2"));
}

TEST_CASE("what is not implemented says so, and private tables are not there") {
  REQUIRE_OK(cuInit(0));
  auto stub = reinterpret_cast<CUresult (*)()>(symbol("cuMulticastCreate"));
  CHECK(stub() == CUDA_ERROR_NOT_SUPPORTED);
  const void* table = &stub;
  CUuuid id{};
  CHECK(cuGetExportTable(&table, &id) == CUDA_ERROR_NOT_FOUND);
  CHECK(table == nullptr);
}
