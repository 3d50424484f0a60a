// cuGetProcAddress (CUDA Driver API 6.31), both ABIs, at every version and flag: what the driver
// answers with a symbol that has a door must be that door, everything else the driver's own
// address.
#include <cuda.h>

#include <set>

#include "tests/preload/every_symbol.hpp"

using namespace preload;

#undef cuGetProcAddress
using V1 = CUresult (*)(const char*, void**, int, cuuint64_t);
using V2 = CUresult (*)(const char*, void**, int, cuuint64_t, CUdriverProcAddressQueryResult*);

namespace {

const int versions[] = {3000,  3020,  4000,  5000,  6050,  7000,  8000,  9000,  9020,  10000,
                        10010, 10020, 11000, 11010, 11020, 11030, 11040, 11060, 11070, 11080,
                        12000, 12010, 12020, 12030, 12040, 12050, 12060, 12080, 12090, 13000};

bool right(void* given, void* own, void* door_by_handle, const DriverTable& real) {
  if (own == nullptr) return given == nullptr;
  const Row* row = real.row(own);
  if (row == nullptr || row->pass() || !under_flexlom()) return given == own;
  return in_flexlom(given) && given == door_by_handle;
}

}  // namespace

int main() {
  void* driver = open_driver();
  const DriverTable real(driver);
  const auto own_v2 = reinterpret_cast<V2>(real.address("cuGetProcAddress_v2"));
  const auto own_v1 = reinterpret_cast<V1>(real.address("cuGetProcAddress"));
  const auto v2 = look_up<V2>(driver, "cuGetProcAddress_v2");
  const auto v1 = look_up<V1>(driver, "cuGetProcAddress");
  CHECK(in_flexlom(reinterpret_cast<void*>(v1)) == under_flexlom());
  CHECK(in_flexlom(reinterpret_cast<void*>(v2)) == under_flexlom());

  std::set<std::string> names;
  for (const Row& row : rows) {
    names.insert(base_name(row.symbol));
    names.insert(row.symbol);  // a suffixed name is no name here, and must stay none
  }
  names.insert("cuNoSuchThing");
  std::set<std::string> seen;
  size_t queries = 0, wrong = 0;
  for (const std::string& name : names) {
    for (const int version : versions) {
      for (const cuuint64_t flags : {0, 1, 2}) {
        void *expected = nullptr, *given = nullptr;
        CUdriverProcAddressQueryResult expected_status{}, status{};
        const CUresult e = own_v2(name.c_str(), &expected, version, flags, &expected_status);
        const CUresult r = v2(name.c_str(), &given, version, flags, &status);
        const Row* row = expected != nullptr ? real.row(expected) : nullptr;
        void* door = row != nullptr ? dlsym(driver, row->symbol) : nullptr;
        if (row != nullptr) seen.insert(row->symbol);
        bool good = e == r && status == expected_status && right(given, expected, door, real);

        expected = given = nullptr;
        const CUresult e1 = own_v1(name.c_str(), &expected, version, flags);
        const CUresult r1 = v1(name.c_str(), &given, version, flags);
        row = expected != nullptr ? real.row(expected) : nullptr;
        door = row != nullptr ? dlsym(driver, row->symbol) : nullptr;
        good = good && e1 == r1 && right(given, expected, door, real);
        ++queries;
        if (!good && ++wrong <= 10)
          std::fprintf(stderr, "%s at %d, flags %d: wrong answer\n", name.c_str(), version,
                       static_cast<int>(flags));
      }
    }
  }
  CHECK(wrong == 0);
  CHECK(seen.size() > 400);

  // Asked for itself it is the ABI of the version asked for: four arguments, or five from 12.0.
  void* self = nullptr;
  CHECK_OK(v2("cuGetProcAddress", &self, 11030, 0, nullptr));
  CHECK(self == reinterpret_cast<void*>(v1));
  CHECK_OK(v2("cuGetProcAddress", &self, 12000, 0, nullptr));
  CHECK(self == reinterpret_cast<void*>(v2));

  // Bad arguments get the driver's answers.
  CHECK(v2(nullptr, &self, 12000, 0, nullptr) == own_v2(nullptr, &self, 12000, 0, nullptr));
  CHECK(v2("cuInit", nullptr, 12000, 0, nullptr) == own_v2("cuInit", nullptr, 12000, 0, nullptr));
  CHECK(v1(nullptr, nullptr, 11000, 0) == own_v1(nullptr, nullptr, 11000, 0));
  std::printf("%zu queries, %zu symbols seen\n", queries, seen.size());
  return verdict();
}
