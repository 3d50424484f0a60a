// Doors that hand out doors: cuGetProcAddress, and cuInit, after which the rest makes sense.
#include "interpose/hooks/common.h"

namespace flexlom {

namespace {

void replace(const char* symbol, void** address) {
  if (address == nullptr || *address == nullptr) return;
  doors::find_originals();
  bool known = false;
  *address = doors::door_for_address(*address, &known);
  if (known) return;
  const unsigned entry = symbol != nullptr ? doors::entry_by_name(symbol) : doors::kEntryCount;
  doors::note_unknown_address(entry < doors::kEntryCount ? doors::entry_info[entry].name
                                                         : "a newer entry point");
}

}  // namespace

namespace own {

CUresult cuGetProcAddress(const char* symbol, void** address, int version, cuuint64_t flags) {
  doors::count(Entry::cuGetProcAddress);
  const CUresult r = FORWARD(cuGetProcAddress, symbol, address, version, flags);
  if (r == CUDA_SUCCESS) replace(symbol, address);
  return r;
}

CUresult cuGetProcAddress_v2(const char* symbol, void** address, int version, cuuint64_t flags,
                             CUdriverProcAddressQueryResult* status) {
  doors::count(Entry::cuGetProcAddress_v2);
  const CUresult r = FORWARD(cuGetProcAddress_v2, symbol, address, version, flags, status);
  if (r == CUDA_SUCCESS) replace(symbol, address);
  return r;
}

CUresult cuInit(unsigned int flags) {
  doors::count(Entry::cuInit);
  const CUresult r = FORWARD(cuInit, flags);
  if (r == CUDA_SUCCESS) runtime();
  return r;
}

}  // namespace own
}  // namespace flexlom
