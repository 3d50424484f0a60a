#include "interpose/graph_operands.h"

#include <algorithm>
#include <vector>

#include "interpose/doors/gate.h"
#include "interpose/doors/originals.h"

namespace flexlom::operands {

namespace {

using pool::Backing;

constexpr unsigned kMostDepth = 32;  // of graphs in graphs; deeper than any driver takes
// Submitters are held meanwhile: a stall beats a refusal that the program knows no reason for.
constexpr uint64_t kMostTime_ns = 500'000'000;

// One side of a copy; no pool: its memory is not ours, and stays what it is.
struct Side {
  pool::DevicePool* pool = nullptr;
  CUdeviceptr address = 0;
  size_t bytes = 0;

  bool is_mixed() const { return pool != nullptr && pool->is_mixed(address, bytes); }
  // What the driver may have seen there.
  std::vector<Backing> choices() const {
    if (pool == nullptr) return {Backing::device};
    const bool one = (address ^ (address + bytes - 1)) < pool::kGranule;
    if (one) return {Backing::device, Backing::host};
    return {Backing::device, Backing::host, Backing::mixed};
  }
};

struct Copy {
  CUgraphNode node = nullptr;
  CUDA_MEMCPY3D params{};
  Side source, target;
  size_t tried = 0;

  bool is_mixed() const { return source.is_mixed() || target.is_mixed(); }
  size_t ways() const { return source.choices().size() * target.choices().size(); }
};

Side side_of(Runtime& rt, CUmemorytype type, const void* host, CUdeviceptr device, size_t x,
             size_t y, size_t pitch, const CUDA_MEMCPY3D& copy) {
  Side side;
  if (type == CU_MEMORYTYPE_ARRAY || copy.WidthInBytes == 0 || copy.Height == 0) return side;
  side.address =
      (type == CU_MEMORYTYPE_HOST ? reinterpret_cast<CUdeviceptr>(host) : device) + x + y * pitch;
  side.bytes = (copy.Height - 1) * pitch + copy.WidthInBytes;
  side.pool = rt.pool.owner(side.address);
  return side;
}

// Several layers are refused with any other address, wherever it is: nothing can be done for those.
bool worth_it(Runtime& rt, const CUDA_MEMCPY3D& params, Copy* copy) {
  if (params.Depth > 1) return false;
  copy->params = params;
  copy->source = side_of(rt, params.srcMemoryType, params.srcHost, params.srcDevice,
                         params.srcXInBytes, params.srcY, params.srcPitch, params);
  copy->target = side_of(rt, params.dstMemoryType, params.dstHost, params.dstDevice,
                         params.dstXInBytes, params.dstY, params.dstPitch, params);
  return copy->source.pool != nullptr || copy->target.pool != nullptr;
}

template <class F, class... A>
CUresult ask(F call, A... a) noexcept {
  return call != nullptr ? call(a...) : CUDA_ERROR_NOT_SUPPORTED;
}

// The copies in a graph and in the graphs in it.
void find_copies(Runtime& rt, CUgraph graph, unsigned depth, std::vector<Copy>* copies) {
  const auto get = FLEXLOM_ORIGINAL(cuGraphGetNodes);
  size_t count = 0;
  if (depth > kMostDepth ||
      ask(get, graph, static_cast<CUgraphNode*>(nullptr), &count) != CUDA_SUCCESS)
    return;
  std::vector<CUgraphNode> nodes(count);
  if (count == 0 || ask(get, graph, nodes.data(), &count) != CUDA_SUCCESS) return;
  nodes.resize(std::min(count, nodes.size()));
  for (const CUgraphNode node : nodes) {
    CUgraphNodeType type{};
    if (ask(FLEXLOM_ORIGINAL(cuGraphNodeGetType), node, &type) != CUDA_SUCCESS) continue;
    CUgraph child = nullptr;
    CUDA_MEMCPY3D params{};
    Copy copy;
    if (type == CU_GRAPH_NODE_TYPE_GRAPH &&
        ask(FLEXLOM_ORIGINAL(cuGraphChildGraphNodeGetGraph), node, &child) == CUDA_SUCCESS) {
      find_copies(rt, child, depth + 1, copies);
    } else if (type == CU_GRAPH_NODE_TYPE_MEMCPY &&
               ask(FLEXLOM_ORIGINAL(cuGraphMemcpyNodeGetParams), node, &params) == CUDA_SUCCESS &&
               worth_it(rt, params, &copy)) {
      copy.node = node;
      copies->push_back(copy);
    }
  }
}

// The pages that are shown otherwise than they are, of all devices, until the end of the scope.
class Stage {
 public:
  Stage() = default;
  ~Stage() {
    for (Part& part : parts_) part.pool->take_back(&part.in);
  }
  Stage(const Stage&) = delete;
  Stage& operator=(const Stage&) = delete;

  bool show(const Copy& copy, size_t way) {
    const std::vector<Backing> sources = copy.source.choices();
    return show(copy.source, sources[way % sources.size()]) &&
           show(copy.target, copy.target.choices()[way / sources.size()]);
  }

 private:
  struct Part {
    pool::DevicePool* pool;
    pool::StandIns in;
  };

  bool show(const Side& side, Backing want) {
    if (side.pool == nullptr) return true;
    auto part = std::find_if(parts_.begin(), parts_.end(),
                             [&](const Part& p) { return p.pool == side.pool; });
    if (part == parts_.end()) part = parts_.insert(part, {side.pool, {}});
    return side.pool->put_stand_ins(side.address, side.bytes, want, &part->in);
  }

  std::vector<Part> parts_;
};

// The driver looks anew where the operands are when the parameters are set, also to the same.
bool look_anew(const Copy& copy) noexcept {
  return ask(FLEXLOM_ORIGINAL(cuGraphMemcpyNodeSetParams), copy.node, &copy.params) == CUDA_SUCCESS;
}

// Nearly always all copies were made, or were not, while everything was on the device. Else the
// driver names the copy that it takes offence at, which is tried in all ways.
CUresult try_all(std::vector<Copy>& copies, const Update& update) {
  Stage stage;
  const uint64_t start = pool::ThreadSync::now_ns();
  for (const Copy& copy : copies) stage.show(copy, 0);
  for (const Copy& copy : copies) look_anew(copy);
  for (;;) {
    CUgraphExecUpdateResultInfo info{};
    const CUresult r = update(&info);
    if (r != CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE ||
        info.result != CU_GRAPH_EXEC_UPDATE_ERROR_PARAMETERS_CHANGED)
      return r;
    const auto copy = std::find_if(copies.begin(), copies.end(),
                                   [&](const Copy& c) { return c.node == info.errorNode; });
    if (copy == copies.end()) return r;
    bool another = false;
    while (!another && ++copy->tried < copy->ways())
      another = stage.show(*copy, copy->tried) && look_anew(*copy);
    if (!another || pool::ThreadSync::now_ns() - start > kMostTime_ns) return r;
  }
}

// Only memory that was not always on the device can be the reason.
bool ever_spilled(const std::vector<Copy>& copies) {
  return std::any_of(copies.begin(), copies.end(), [](const Copy& copy) {
    const auto spilled = [](const Side& side) {
      return side.pool != nullptr && side.pool->stats().spilled_bytes > 0;
    };
    return spilled(copy.source) || spilled(copy.target);
  });
}

// Runs `fn` with the device quiet. False: that could not be had.
bool in_quiet(Runtime& rt, const std::vector<Copy>& copies, const std::function<void()>& fn) {
  const Copy& first = copies.front();
  pool::DevicePool& pool = *(first.source.pool != nullptr ? first.source.pool : first.target.pool);
  InsidePool inside;
  return rt.pool.residency()->mover().while_quiet(pool, [&] {
    try {
      fn();
    } catch (...) {  // no memory: the driver's answer stands
    }
  });
}

bool can_help(Runtime& rt, const std::vector<Copy>& copies) {
  return !copies.empty() && rt.pool.residency() != nullptr && !doors::Submission::open() &&
         ever_spilled(copies);
}

CUresult ask_again(Runtime& rt, const std::vector<Copy>& copies, CUresult refused,
                   const std::function<CUresult()>& again) {
  if (!can_help(rt, copies)) return refused;
  CUresult result = refused;
  if (!in_quiet(rt, copies, [&] { result = again(); }))
    rt.listener.warned(
        "an executable graph could not be changed: its copies use memory that is on the host, and "
        "the device does not come to rest");
  return result;
}

}  // namespace

void prepare(Runtime& rt, CUgraph graph) noexcept {
  pool::Residency* residency = rt.pool.residency();
  bool spilled = false;
  rt.pool.each_device([&](pool::DevicePool& p) { spilled |= p.stats().spilled_bytes > 0; });
  if (!spilled || residency == nullptr || !residency->mover().worth_trying()) return;
  try {
    std::vector<Copy> copies;
    find_copies(rt, graph, 0, &copies);
    std::erase_if(copies, [](const Copy& copy) { return !copy.is_mixed(); });
    if (!can_help(rt, copies)) return;
    in_quiet(rt, copies, [&] {
      Stage stage;
      for (const Copy& copy : copies)
        if (stage.show(copy, 0)) look_anew(copy);
    });
  } catch (...) {  // as if it had not been called
  }
}

CUresult update_again(Runtime& rt, CUgraph graph, const CUgraphExecUpdateResultInfo& refusal,
                      const Update& update) noexcept {
  constexpr CUresult kRefused = CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE;
  if (refusal.result != CU_GRAPH_EXEC_UPDATE_ERROR_PARAMETERS_CHANGED) return kRefused;
  try {
    std::vector<Copy> copies;
    find_copies(rt, graph, 0, &copies);
    if (copies.empty()) return kRefused;
    const bool ours = refusal.errorNode == nullptr ||
                      std::any_of(copies.begin(), copies.end(),
                                  [&](auto& c) { return c.node == refusal.errorNode; });
    if (!ours) return kRefused;
    return ask_again(rt, copies, kRefused, [&] { return try_all(copies, update); });
  } catch (...) {
    return kRefused;
  }
}

CUresult set_again(Runtime& rt, const CUDA_MEMCPY3D& params,
                   const std::function<CUresult()>& set) noexcept {
  constexpr CUresult kRefused = CUDA_ERROR_INVALID_VALUE;
  try {
    Copy copy;
    if (!worth_it(rt, params, &copy)) return kRefused;
    return ask_again(rt, {copy}, kRefused, [&] {
      Stage stage;
      CUresult r = kRefused;
      for (size_t way = 0; way < copy.ways() && r == kRefused; ++way)
        if (stage.show(copy, way)) r = set();
      return r;
    });
  } catch (...) {
    return kRefused;
  }
}

}  // namespace flexlom::operands
