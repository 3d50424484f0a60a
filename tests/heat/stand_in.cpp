// The parts of the library that the tested ones lean on, as small as they can be.
#include <dlfcn.h>

#include "interpose/doors/gate.h"
#include "interpose/graph_operands.h"
#include "interpose/room.h"
#include "interpose/runtime.h"
#include "tests/heat/testing.h"

namespace flexlom::doors {

void* const door_of[kEntryCount] = {};
Dlsym real_dlsym() noexcept { return &dlsym; }
bool gate_abandoned() noexcept { return false; }

}  // namespace flexlom::doors

namespace flexlom {

constinit thread_local int InsidePool::depth_ __attribute__((tls_model("initial-exec"))) = 0;

namespace {
std::atomic<bool> armed{true};
alignas(16) char nothing[16];
}  // namespace

namespace detail {
std::atomic<WipedPage*> page{nullptr};
// The hooks under test only ask whether there is one.
Runtime* arm() noexcept { return armed ? reinterpret_cast<Runtime*>(nothing) : nullptr; }
}  // namespace detail

}  // namespace flexlom

// Nothing moves here, so a refusal stands.
namespace flexlom::operands {
void prepare(Runtime&, CUgraph) noexcept {}
CUresult update_again(Runtime&, CUgraph, const CUgraphExecUpdateResultInfo&,
                      const Update&) noexcept {
  return CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE;
}
CUresult set_again(Runtime&, const CUDA_MEMCPY3D&, const std::function<CUresult()>&) noexcept {
  return CUDA_ERROR_INVALID_VALUE;
}
}  // namespace flexlom::operands

// Nothing is kept here, so there is nothing to give back.
namespace flexlom::room {
bool made() noexcept { return false; }
}  // namespace flexlom::room

namespace testing {
void arm(bool armed) { flexlom::armed = armed; }
}  // namespace testing
