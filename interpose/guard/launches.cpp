#include "interpose/guard/launches.h"

#include <algorithm>

#include "interpose/doors/originals.h"
#include "interpose/heat/layout.h"

namespace flexlom::guard {

namespace {

// CUDA Driver API 6.9 and 6.12: a launch takes a CUfunction or a CUkernel, and each is asked by a
// call of its own.
std::string ask_name(const void* handle) {
  void* const given = const_cast<void*>(handle);
  const char* name = nullptr;
  if (const auto function = FLEXLOM_ORIGINAL(cuFuncGetName)) {
    if (function(&name, static_cast<CUfunction>(given)) == CUDA_SUCCESS && name != nullptr)
      return name;
  }
  if (const auto kernel = FLEXLOM_ORIGINAL(cuKernelGetName)) {
    if (kernel(&name, static_cast<CUkernel>(given)) == CUDA_SUCCESS && name != nullptr) return name;
  }
  return "a kernel without a name";
}

}  // namespace

// Asked at the first sight of a function: once the context is broken the driver answers nothing.
const std::string* Launches::name_of(doors::Entry entry, const heat::Named& named, bool* kernel) {
  const char* call = doors::entry_info[doors::index_of(entry)].name;
  *kernel = named.work > 0 && named.function != nullptr && named.graph == nullptr;
  if (!*kernel) return &*names_.insert(call).first;
  const uint64_t generation = heat::handle_generation();
  if (generation != kernels_of_) kernels_.clear();
  kernels_of_ = generation;
  const auto known = kernels_.find(named.function);
  if (known != kernels_.end()) return known->second;
  const std::string* name = &*names_.insert(ask_name(named.function)).first;
  kernels_.emplace(named.function, name);
  return name;
}

uint64_t Launches::add(doors::Entry entry, const heat::Named& named, const Shape& shape,
                       CUcontext context, uint64_t stream, int tid, uint64_t at_ns) {
  std::lock_guard lock(mutex_);
  bool kernel = false;
  const std::string* name = name_of(entry, named, &kernel);
  entering_.insert(next_ + 1);
  const uint64_t number = ++next_;
  Launch& launch = ring_[number % kKept];
  launch.number = number;
  launch.at_ns = at_ns;
  launch.tid = tid;
  launch.context = context;
  launch.stream = stream;
  launch.name = name;
  launch.kernel = kernel;
  launch.shape = shape;
  launch.count = 0;
  launch.more = named.overflow;
  launch.unknown = named.unknown;
  heat::for_each_word(named, [&](CUdeviceptr word) {
    const CUdeviceptr* end = launch.words + launch.count;
    if (std::find(launch.words, const_cast<CUdeviceptr*>(end), word) != end) return;
    if (launch.count < Launch::kWords) {
      launch.words[launch.count++] = word;
    } else {
      launch.more = true;
    }
  });
  return number;
}

void Launches::entered(uint64_t number) {
  std::lock_guard lock(mutex_);
  entering_.erase(number);
}

void Launches::refused(uint64_t number) {
  std::lock_guard lock(mutex_);
  entering_.erase(number);
  Launch& launch = ring_[number % kKept];
  if (launch.number == number) launch.number = 0;
}

uint64_t Launches::last() const {
  std::lock_guard lock(mutex_);
  return entering_.empty() ? next_ : *entering_.begin() - 1;
}

void Launches::over(uint64_t number) {
  std::lock_guard lock(mutex_);
  all_over_ = std::max(all_over_, number);
}

void Launches::over(CUcontext context, uint64_t number) {
  std::lock_guard lock(mutex_);
  uint64_t& over = context_over_[context];
  over = std::max(over, number);
}

void Launches::over(CUcontext context, uint64_t stream, uint64_t number) {
  std::lock_guard lock(mutex_);
  uint64_t& over = stream_over_[{context, stream}];
  over = std::max(over, number);
}

std::vector<Launch> Launches::suspects(CUcontext context, bool all) const {
  std::lock_guard lock(mutex_);
  std::vector<Launch> found;
  const auto over_of = [](const auto& map, const auto& key) {
    const auto it = map.find(key);
    return it != map.end() ? it->second : uint64_t{0};
  };
  for (const Launch& launch : ring_) {
    if (launch.number == 0 || (context != nullptr && launch.context != context)) continue;
    const uint64_t over =
        std::max({all_over_, over_of(context_over_, launch.context),
                  over_of(stream_over_, std::pair{launch.context, launch.stream})});
    if (all || launch.number > over) found.push_back(launch);
  }
  std::sort(found.begin(), found.end(),
            [](const Launch& a, const Launch& b) { return a.number > b.number; });
  return found;
}

}  // namespace flexlom::guard
