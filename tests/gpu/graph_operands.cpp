// What the driver makes of executable graphs whose operands do not stay where they were: the memory
// is mapped to device frames or to host frames, and mapped anew between the calls.
//
//   graph_operands [--json] [SECTION]...    only these sections
//
// Prints one line per fact, the outcomes of like runs on one line. A run is named by where the
// operands were, in the order that its section says:
//   D  device memory     H  host-located memory     X  device memory of somebody else
//   1  only the first granule of D, the rest unmapped       U  not mapped at all
// It makes its memory itself with the functions of CUDA Driver API 6.14: to be run bare. Exit code
// 77 where the driver has no host-located memory.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "tests/gpu/graph_operands.h"

namespace {

using namespace operands;

constexpr uint32_t kValue = 0x5a5a1234;

CUDA_MEMCPY3D copy_of(Kind kind, const Operands& of, const Shape& shape) {
  CUDA_MEMCPY3D p{};
  const bool unified = kind == Kind::copy_unified || kind == Kind::box_unified;
  p.srcMemoryType = p.dstMemoryType = unified ? CU_MEMORYTYPE_UNIFIED : CU_MEMORYTYPE_DEVICE;
  p.srcDevice = of.source.base() + shape.begin;
  p.dstDevice = of.target.base() + shape.begin;
  p.WidthInBytes = shape.bytes;
  p.Height = p.Depth = 1;
  if (kind == Kind::plane_device) {
    p.WidthInBytes = kWidth;
    p.srcPitch = p.dstPitch = kPitch;
    p.Height = shape.bytes / kPitch;
  }
  if (kind == Kind::box_captured || kind == Kind::box_device || kind == Kind::box_unified) {
    p.WidthInBytes = kWidth;
    p.srcPitch = p.dstPitch = kPitch;
    p.srcHeight = p.dstHeight = kSlice;
    p.Height = kRows;
    p.Depth = shape.bytes / kPitch / kSlice;
  }
  return p;
}
CUDA_MEMSET_NODE_PARAMS set_of(Kind kind, const Operands& of, const Shape& shape) {
  CUDA_MEMSET_NODE_PARAMS p{};
  p.dst = of.target.base() + shape.begin;
  p.value = kValue;
  p.elementSize = 4;
  p.width = shape.bytes / 4;
  p.height = 1;
  if (kind == Kind::set_2d_added) {
    p.width = kWidth / 4;
    p.pitch = kPitch;
    p.height = shape.bytes / kPitch;
  }
  return p;
}
bool is_copy(Kind kind) { return kind <= Kind::box_unified; }
bool is_set(Kind kind) { return kind >= Kind::set_captured && kind <= Kind::set_2d_added; }

// A graph of one node.
struct Graph {
  CUgraph graph = nullptr;
  CUgraphNode node = nullptr;
  CUresult made = CUDA_SUCCESS;

  Graph(Kind kind, const Operands& of, const Shape& shape) {
    const Gpu& g = gpu();
    const CUdeviceptr from = of.source.base() + shape.begin, into = of.target.base() + shape.begin;
    if (kind == Kind::plane_device || kind == Kind::copy_device || kind == Kind::copy_unified ||
        kind == Kind::box_device || kind == Kind::box_unified || kind == Kind::set_added ||
        kind == Kind::set_2d_added) {
      MUST(cuGraphCreate, &graph, 0);
      const CUDA_MEMCPY3D copy = copy_of(kind, of, shape);
      const CUDA_MEMSET_NODE_PARAMS set = set_of(kind, of, shape);
      made = is_copy(kind) ? g.f.cuGraphAddMemcpyNode(&node, graph, nullptr, 0, &copy, g.context)
                           : g.f.cuGraphAddMemsetNode(&node, graph, nullptr, 0, &set, g.context);
      return;
    }
    MUST(cuStreamBeginCapture, g.stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
    const CUDA_MEMCPY3D box = copy_of(kind, of, shape);
    switch (kind) {
      case Kind::copy_captured:
        made = g.f.cuMemcpyDtoDAsync(into, from, shape.bytes, g.stream);
        break;
      case Kind::box_captured:
        made = g.f.cuMemcpy3DAsync(&box, g.stream);
        break;
      case Kind::up:
        made = g.f.cuMemcpyHtoDAsync(into, g.pinned + shape.begin, shape.bytes, g.stream);
        break;
      case Kind::down:
        made = g.f.cuMemcpyDtoHAsync(g.landing + shape.begin, from, shape.bytes, g.stream);
        break;
      case Kind::set_captured:
        made = g.f.cuMemsetD32Async(into, kValue, shape.bytes / 4, g.stream);
        break;
      case Kind::set_2d_captured:
        made = g.f.cuMemsetD2D32Async(into, kPitch, kValue, kWidth / 4, shape.bytes / kPitch,
                                      g.stream);
        break;
      default:
        g.cuda.launch(g.copy, 16, 256, g.stream, into, from, uint64_t{shape.bytes / 4});
    }
    const CUresult ended = g.f.cuStreamEndCapture(g.stream, &graph);
    if (made == CUDA_SUCCESS) made = ended;
    size_t count = 1;
    if (made == CUDA_SUCCESS) MUST(cuGraphGetNodes, graph, &node, &count);
  }
  ~Graph() {
    if (graph != nullptr) gpu().f.cuGraphDestroy(graph);
  }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
};

struct Exec {
  CUgraphExec exec = nullptr;
  CUresult made = CUDA_SUCCESS;
  explicit Exec(const Graph& graph) : made(gpu().f.cuGraphInstantiate(&exec, graph.graph, 0)) {}
  ~Exec() {
    if (made == CUDA_SUCCESS) gpu().f.cuGraphExecDestroy(exec);
  }
  Exec(const Exec&) = delete;
  Exec& operator=(const Exec&) = delete;
};

std::string name_of(CUresult result) {
  const char* name = nullptr;
  gpu().cuda.cuGetErrorName_(result, &name);
  const std::string text = name != nullptr ? name : "unknown";
  return text.rfind("CUDA_ERROR_", 0) == 0 ? text.substr(11) : text;
}

// Is the target what the node makes of the source? Both must be mapped as a whole.
void fill(const Operands& of) {
  const Gpu& g = gpu();
  g.must(g.cuda.cuMemcpyHtoD_(of.source.base(), g.pinned, kBytes), "cuMemcpyHtoD");
  g.must(g.cuda.cuMemsetD8_(of.target.base(), 0, kBytes), "cuMemsetD8");
  std::memset(g.landing, 0, kBytes);
  g.must(g.cuda.cuCtxSynchronize_(), "cuCtxSynchronize");
}
bool is_right(Kind kind, const Operands& of, const Shape& shape) {
  const Gpu& g = gpu();
  std::vector<unsigned char> want(kBytes), have(kBytes);
  const auto rows = [&](size_t width, bool from_source) {
    for (size_t at = 0; at < shape.bytes; at += kPitch) {
      const bool box = kind >= Kind::box_captured && kind <= Kind::box_unified;
      if (box && at / kPitch % kSlice >= kRows) continue;
      for (size_t i = 0; i < width && at + i < shape.bytes; ++i)
        want[shape.begin + at + i] = from_source
                                         ? g.pinned[shape.begin + at + i]
                                         : static_cast<unsigned char>(kValue >> 8 * (i % 4));
    }
  };
  const bool box = kind >= Kind::box_captured && kind <= Kind::box_unified;
  const bool set_2d = kind == Kind::set_2d_captured || kind == Kind::set_2d_added;
  const bool narrow = box || set_2d || kind == Kind::plane_device;
  rows(narrow ? kWidth : kPitch, !is_set(kind));
  if (kind == Kind::down) return std::memcmp(want.data(), g.landing, kBytes) == 0;
  g.must(g.cuda.cuMemcpyDtoH_(have.data(), of.target.base(), kBytes), "cuMemcpyDtoH");
  return want == have;
}
// What a launch does, in one word. An error of the device ends the section: it stays.
std::string replay(CUgraphExec exec, Kind kind, const Operands& of, const Shape& shape) {
  const Gpu& g = gpu();
  fill(of);
  CUresult result = g.f.cuGraphLaunch(exec, g.stream);
  if (result == CUDA_SUCCESS) result = g.cuda.cuStreamSynchronize_(g.stream);
  if (result != CUDA_SUCCESS) return "launch:" + name_of(result);
  return is_right(kind, of, shape) ? "right" : "WRONG";
}

const char* const kReasons[] = {"SUCCESS",           "ERROR",
                                "TOPOLOGY_CHANGED",  "NODE_TYPE_CHANGED",
                                "FUNCTION_CHANGED",  "PARAMETERS_CHANGED",
                                "NOT_SUPPORTED",     "UNSUPPORTED_FUNCTION_CHANGE",
                                "ATTRIBUTES_CHANGED"};

std::string updated(CUgraphExec exec, CUgraph graph) {
  CUgraphExecUpdateResultInfo info{};
  const CUresult result = gpu().f.cuGraphExecUpdate(exec, graph, &info);
  if (result == CUDA_SUCCESS) return "SUCCESS";
  return name_of(result) + "(" + kReasons[info.result] + ")";
}
std::string failed(const char* what, CUresult result) {
  return std::string(what) + ":" + name_of(result);
}

// A graph of `b` updates an executable graph of `a`. After it has succeeded, it is launched with
// the memory on the device and on the host.
std::string update_run(Kind kind, const Shape& shape, Operands& a, Operands& b,
                       const std::function<void(int)>& place) {
  place(0);
  const Graph old(kind, a, shape);
  if (old.made != CUDA_SUCCESS) return failed("node", old.made);
  place(1);
  const Exec exec(old);
  if (exec.made != CUDA_SUCCESS) return failed("instantiate", exec.made);
  place(2);
  const Graph next(kind, b, shape);
  if (next.made != CUDA_SUCCESS) return failed("node of the update", next.made);
  place(3);
  std::string outcome = updated(exec.exec, next.graph);
  if (outcome != "SUCCESS") return outcome;
  for (const char where : {'D', 'H'}) {
    b.to(where);
    outcome += " " + replay(exec.exec, kind, b, shape);
  }
  return outcome;
}

void updates(const KindName& of) {
  Operands a, b;
  const auto section = [&](const char* name, Operands& next, const std::string& made) {
    Facts facts(name, of.text);
    for (const char an : {'D', 'H'})
      for (const char ai : {'D', 'H'})
        for (const char bn : made)
          for (const char bu : {'D', 'H', 'X', '1', 'U'})
            for (const char au : {'D', 'H'}) {
              if (&next == &a && au == 'H') continue;
              const auto place = [&](int step) {
                if (step == 0) a.to(an);
                if (step == 1) a.to(ai);
                if (step == 2) next.to(bn);
                if (step != 3) return;
                a.to(au);
                next.to(bu);
              };
              std::string run{an, ai, bn, bu};
              if (&next != &a) run += au;
              facts.add(run, update_run(of.kind, kSmall, a, next, place));
            }
  };
  section("update", b, "DHXU");
  section("same", a, "DH");
}

// Source and target apart: where they were when the graph was instantiated, and at the update.
void mixed(const KindName& of) {
  Operands a, b;
  Facts facts("mixed", of.text);
  const std::string all[] = {"DD", "DH", "HD", "HH"};
  for (const std::string& before : all)
    for (const std::string& after : all)
      facts.add(before + ">" + after, update_run(of.kind, kSmall, a, b, [&](int step) {
                  a.to(before.substr(0, 1), before.substr(1));
                  if (step > 1) b.to(after.substr(0, 1), after.substr(1));
                }));
}

// Operands that lie across two granules.
void across(const KindName& of) {
  Operands a, b;
  Facts facts("across", of.text);
  for (const std::string before : {"DD", "DH", "HD", "HH"})
    for (const std::string after : {"DD", "DH", "HD", "HH", "DU", "UD", "UU"})
      facts.add(before + ">" + after, update_run(of.kind, kAcross, a, b, [&](int step) {
                  a.to(before, before);
                  const bool whole = step == 2 && after.find('U') != std::string::npos;
                  if (step > 1) b.to(whole ? "HH" : after, whole ? "HH" : after);
                }));
}

// Instantiated (and uploaded, launched) in one place, launched in another.
void replays(const KindName& of) {
  Operands a;
  Facts facts("replay", of.text);
  for (const char an : {'D', 'H'})
    for (const char ai : {'D', 'H', 'X', 'U'})
      for (const char first : {'-', 'u', 'D', 'H'})
        for (const std::string last : {"DD", "HH", "DH", "HD"}) {
          a.to(an);
          const Shape& shape = kAcross;
          const Graph graph(of.kind, a, shape);
          a.to(ai);
          const Exec exec(graph);
          std::string outcome;
          if (exec.made != CUDA_SUCCESS) {
            outcome = failed("instantiate", exec.made);
          } else {
            if (first == 'u') MUST(cuGraphUpload, exec.exec, gpu().stream);
            if (first == 'u') gpu().must(gpu().cuda.cuStreamSynchronize_(gpu().stream), "upload");
            if (first == 'D' || first == 'H') {
              a.to(first);
              outcome = "first " + replay(exec.exec, of.kind, a, shape) + " then ";
            }
            a.to(last, last);
            outcome += replay(exec.exec, of.kind, a, shape);
          }
          facts.add(std::string{an, ai, first, '>'} + last, outcome);
        }
}

// The node of an executable graph of `a` gets operands in `b`.
void set_params(const KindName& of) {
  if (!is_copy(of.kind) && of.kind != Kind::set_captured && of.kind != Kind::set_added &&
      of.kind != Kind::set_2d_added)
    return;
  const Gpu& g = gpu();
  Operands a, b;
  for (const bool unified : {false, true})
    for (const bool generic : {false, true}) {
      if (unified && !is_copy(of.kind)) continue;
      const std::string name =
          std::string(generic ? "set_any" : "set") + (unified ? "_unified" : "");
      Facts facts(name.c_str(), of.text);
      for (const char an : {'D', 'H'})
        for (const char ai : {'D', 'H'})
          for (const char au : {'D', 'H'})
            for (const char b_at : {'D', 'H', 'X', '1', 'U'}) {
              a.to(an);
              const Graph graph(of.kind, a, kSmall);
              a.to(ai);
              const Exec exec(graph);
              a.to(au);
              b.to(b_at);
              CUDA_MEMCPY3D copy = copy_of(of.kind, b, kSmall);
              copy.srcMemoryType = copy.dstMemoryType =
                  unified ? CU_MEMORYTYPE_UNIFIED : CU_MEMORYTYPE_DEVICE;
              const CUDA_MEMSET_NODE_PARAMS set = set_of(of.kind, b, kSmall);
              CUgraphNodeParams any{};
              any.type = is_copy(of.kind) ? CU_GRAPH_NODE_TYPE_MEMCPY : CU_GRAPH_NODE_TYPE_MEMSET;
              if (is_copy(of.kind)) {
                any.memcpy.copyCtx = g.context;
                any.memcpy.copyParams = copy;
              } else {
                any.memset = {set.dst,   set.pitch,  set.value, set.elementSize,
                              set.width, set.height, g.context};
              }
              const CUresult result =
                  generic ? g.f.cuGraphExecNodeSetParams(exec.exec, graph.node, &any)
                  : is_copy(of.kind)
                      ? g.f.cuGraphExecMemcpyNodeSetParams(exec.exec, graph.node, &copy, g.context)
                      : g.f.cuGraphExecMemsetNodeSetParams(exec.exec, graph.node, &set, g.context);
              std::string outcome = name_of(result);
              for (const char where : {'D', 'H'}) {
                if (result != CUDA_SUCCESS) break;
                b.to(where);
                outcome += " " + replay(exec.exec, of.kind, b, kSmall);
              }
              facts.add({an, ai, au, b_at}, outcome);
            }
    }
}

// Does setting the parameters of the graph's own node make it a node made anew? Then only where the
// memory was at that time counts.
void node_params(const KindName& of) {
  if (!is_copy(of.kind) && of.kind != Kind::set_added && of.kind != Kind::set_2d_added) return;
  const Gpu& g = gpu();
  Operands a, b;
  Facts facts("renew", of.text);
  for (const char ai : {'D', 'H'})
    for (const char bn : {'D', 'H'})
      for (const char bs : {'D', 'H', 'X'})
        for (const char bu : {'D', 'H'}) {
          a.to(ai);
          const Graph graph(of.kind, a, kSmall);
          const Exec exec(graph);
          b.to(bn);
          const Graph next(of.kind, b, kSmall);
          b.to(bs);
          const CUDA_MEMCPY3D copy = copy_of(of.kind, b, kSmall);
          const CUDA_MEMSET_NODE_PARAMS set = set_of(of.kind, b, kSmall);
          const CUresult result = is_copy(of.kind)
                                      ? g.f.cuGraphMemcpyNodeSetParams(next.node, &copy)
                                      : g.f.cuGraphMemsetNodeSetParams(next.node, &set);
          b.to(bu);
          facts.add({ai, bn, bs, bu}, result == CUDA_SUCCESS ? updated(exec.exec, next.graph)
                                                             : failed("set", result));
        }
}

// The same of the graph that is instantiated: does the executable graph go by where the memory was
// when its node was made, or when it was changed last?
void renewed_first(const KindName& of) {
  if (!is_copy(of.kind)) return;
  Operands a, b;
  Facts facts("renew_old", of.text);
  for (const char an : {'D', 'H'})
    for (const char as : {'D', 'H', 'X'})
      for (const char ai : {'D', 'H'})
        for (const char bn : {'D', 'H'}) {
          a.to(an);
          const Graph graph(of.kind, a, kSmall);
          a.to(as);
          const CUDA_MEMCPY3D copy = copy_of(of.kind, a, kSmall);
          const CUresult result = gpu().f.cuGraphMemcpyNodeSetParams(graph.node, &copy);
          a.to(ai);
          const Exec exec(graph);
          b.to(bn);
          const Graph next(of.kind, b, kSmall);
          facts.add({an, as, ai, bn}, result == CUDA_SUCCESS ? updated(exec.exec, next.graph)
                                                             : failed("set", result));
        }
}

// Other sizes than before, within one granule and across two.
void sizes(const KindName& of) {
  Operands a, b;
  Facts facts("sizes", of.text);
  const Shape shapes[] = {kSmall, kAcross, {4096, 4096}};
  for (const Shape& before : shapes)
    for (const Shape& after : shapes)
      for (const char bn : {'D', 'H'}) {
        a.to('D');
        b.to(bn);
        const Graph graph(of.kind, a, before), next(of.kind, b, after);
        const Exec exec(graph);
        facts.add(std::to_string(&before - shapes) + std::to_string(&after - shapes) + bn,
                  updated(exec.exec, next.graph));
      }
}

// In a graph that is a child of another: an update of the whole, and another child in its place.
void children(const KindName& of) {
  const Gpu& g = gpu();
  Operands a, b;
  Facts update("child", of.text), set("set_child", of.text);
  for (const char an : {'D', 'H'})
    for (const char bn : {'D', 'H'}) {
      a.to(an);
      b.to(bn);
      const Graph one(of.kind, a, kSmall), two(of.kind, b, kSmall);
      CUgraph outer[2] = {};
      CUgraphNode child[2] = {};
      for (int i = 0; i < 2; ++i) {
        MUST(cuGraphCreate, &outer[i], 0);
        MUST(cuGraphAddChildGraphNode, &child[i], outer[i], nullptr, 0, (i == 0 ? one : two).graph);
      }
      CUgraphExec exec = nullptr;
      MUST(cuGraphInstantiate, &exec, outer[0], 0);
      set.add({an, bn}, name_of(g.f.cuGraphExecChildGraphNodeSetParams(exec, child[0], two.graph)));
      MUST(cuGraphExecDestroy, exec);
      MUST(cuGraphInstantiate, &exec, outer[0], 0);
      update.add({an, bn}, updated(exec, outer[1]));
      MUST(cuGraphExecDestroy, exec);
      for (const CUgraph graph : outer) MUST(cuGraphDestroy, graph);
    }
}

// An update that failed, and the same one again with the new operands elsewhere.
void retries(const KindName& of) {
  Operands a, b;
  Facts facts("retry", of.text);
  for (const char ai : {'D', 'H'})
    for (const char bn : {'D', 'H'})
      for (const char first : {'D', 'H'})
        for (const char second : {'D', 'H', 'X'}) {
          a.to(ai);
          const Graph graph(of.kind, a, kSmall);
          const Exec exec(graph);
          b.to(bn);
          const Graph next(of.kind, b, kSmall);
          b.to(first);
          const std::string before = updated(exec.exec, next.graph);
          b.to(second);
          std::string outcome = updated(exec.exec, next.graph);
          if (outcome == "SUCCESS") {
            b.to('D');
            outcome += " " + replay(exec.exec, of.kind, b, kSmall);
          }
          facts.add({ai, bn, first, second}, before + " then " + outcome);
        }
}

// What a captured copy says its memory is.
void types(const KindName& of) {
  if (of.kind > Kind::down) return;
  Operands a;
  Facts facts("types", of.text);
  for (const char made : {'D', 'H'})
    for (const char asked : {'D', 'H'}) {
      a.to(made);
      const Graph graph(of.kind, a, kSmall);
      a.to(asked);
      CUDA_MEMCPY3D copy{};
      const CUresult result = gpu().f.cuGraphMemcpyNodeGetParams(graph.node, &copy);
      facts.add({made, asked}, result == CUDA_SUCCESS
                                   ? "source " + std::to_string(copy.srcMemoryType) + " target " +
                                         std::to_string(copy.dstMemoryType)
                                   : name_of(result));
    }
}

// In a process of its own: what an error on the device spoils stays spoilt in its process.
bool apart(const std::function<void()>& section) {
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    alarm(120);
    section();
    std::fflush(stdout);
    _exit(0);
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child) return false;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 77) std::exit(77);
  return status == 0;
}

struct Section {
  const char* name;
  void (*run)(const KindName&);
  const char* means;
};
constexpr Section kSections[] = {
    {"types", types, "operands when the copy node was made, when asked"},
    {"mixed", mixed, "source and target at instantiation > at the update"},
    {"across", across, "the operands' two granules at instantiation > at the update"},
    {"set", set_params,
     "old operands at: node, instantiation, call; new operands at the call. Then launches"},
    {"renew", node_params,
     "old operands at instantiation; new ones at: node, change of the node, update"},
    {"renew_old", renewed_first,
     "old operands at: node, change of the node, instantiation; new ones at their node"},
    {"sizes", sizes,
     "old size, new size (0: in one granule, 1: across two, 2: small), new operands at their node"},
    {"child", children, "old operands, new operands; for set_child as well"},
    {"retry", retries,
     "old operands at instantiation; new ones at: node, update, a second update. Then a launch of "
     "the new operands"},
    {"update", updates,
     "old operands at: node, instantiation; new operands at: node, update; old ones at the update. "
     "Then launches with the new ones on the device, on the host"},
    {"same", nullptr, "the same, the new operands being the old ones"},
    {"replay", replays,
     "operands at: node, instantiation, first launch (-: none, u: upload) > granules at the last"},
};

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> only;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--json") == 0) {
      json = true;
      continue;
    }
    const bool known = std::any_of(std::begin(kSections), std::end(kSections), [&](const auto& s) {
      return s.run != nullptr && std::strcmp(s.name, argv[i]) == 0;
    });
    if (!known) {
      std::fprintf(stderr, "usage: graph_operands [--json] [SECTION]...\n");
      return 2;
    }
    only.push_back(argv[i]);
  }
  const auto wanted = [&](const Section& section) {
    return only.empty() || std::find(only.begin(), only.end(), section.name) != only.end();
  };
  const auto about = [] {
    int version = 0;
    gpu().must(gpu().cuda.cuDriverGetVersion_(&version), "cuDriverGetVersion");
    if (!json) std::printf("driver %d, host memory is %s\n", version, gpu().host_location);
  };
  if (!apart(about)) return 1;
  if (!json)
    for (const Section& section : kSections) std::printf("# %s: %s\n", section.name, section.means);
  int incomplete = 0;
  for (const KindName& kind : kKinds) {
    const bool whole = apart([&] {
      for (const Section& section : kSections)
        if (section.run != nullptr && wanted(section)) section.run(kind);
    });
    if (whole) continue;
    ++incomplete;
    std::printf(json ? "{\"kind\": \"%s\", \"outcome\": \"ended early\"}\n" : "%s ended early\n",
                kind.text);
  }
  if (!json) std::printf("%d kinds of node ended early\n", incomplete);
  return 0;
}
