#include "interpose/runtime.h"

#include <fmt/format.h>
#include <link.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include <unwind.h>

#include <algorithm>

#include "interpose/doors/gate.h"
#include "interpose/doors/originals.h"
#include "interpose/memory_limits.h"

namespace flexlom {

bool doors::gate_abandoned() noexcept { return runtime() == nullptr; }

constinit thread_local int InsidePool::depth_ __attribute__((tls_model("initial-exec"))) = 0;

namespace {

// What the default budget leaves free for what the driver and libraries allocate beside the pool:
// contexts, lazily loaded code, graphs, arrays.
uint64_t margin(const pool::DeviceFacts& facts) {
  const uint64_t part = std::clamp<uint64_t>(facts.total_bytes / 64, 256u << 20, uint64_t{2} << 30);
  return std::min(part, facts.free_bytes / 8);
}

uint64_t device_budget(void* user, int device, const pool::DeviceFacts& facts) {
  const Limit limit = static_cast<const Options*>(user)->device_limit.for_device(device);
  if (limit.kind == Limit::Kind::unset) return facts.free_bytes - margin(facts);
  return limit.of(facts.total_bytes);
}

uint64_t host_budget(const Options& options) {
  const uint64_t available = available_host_bytes();
  Limit limit = options.host_limit;
  if (limit.kind == Limit::Kind::unset) limit = {Limit::Kind::percent, 50};
  return limit.of(available);
}

pool::PoolConfig pool_config(const Options& options, Listener& listener,
                             std::function<void()> publish, std::function<uint64_t(int)> peers) {
  pool::PoolConfig config;
#ifdef __SANITIZE_THREAD__
  config.base_hint = 0;  // the sanitizer keeps its shadow where our addresses would be
#endif
  config.host_budget_bytes = host_budget(options);
  config.idle_trim_ms = options.idle_trim_ms;
  config.device_budget = &device_budget;
  config.user = const_cast<Options*>(&options);
  config.peers = std::move(peers);
  config.guard = options.guard;
  // What is guarded stays where it was first placed: an address that faults today faults tomorrow.
  config.gate = options.guard ? nullptr : &doors::gate;
  config.residency.kind = options.policy == Policy::pin   ? pool::policy::Kind::pin
                          : options.policy == Policy::lru ? pool::policy::Kind::lru
                                                          : pool::policy::Kind::automatic;
  if (doors::gate.fence_asymmetrically())
    config.heavy_fence = []() noexcept { doors::gate.heavy_fence(); };
  if (!options.coverage) doors::gate.beside.counting.store(false, std::memory_order_relaxed);
  config.residency.watching = &doors::gate.beside.watching;
  config.residency.tracked = options.safety == Safety::tracked;
  if (config.residency.tracked) doors::gate.beside.tracking.store(true);
  if (options.stats_every.seconds > 0) {
    config.beats.push_back(
        {[&listener] { listener.statistics(true); }, uint64_t{options.stats_every.seconds} * 1000});
  }
  if (options.live) config.beats.push_back({std::move(publish), live::Publisher::kPeriod_ms});
  return config;
}

// The answers to "which context, which device" of the last call on this thread.
struct LastContext {
  CUcontext context;
  CUcontext owner;  // of memory made in it
  int device;
  unsigned generation;
};
thread_local LastContext last_context
    __attribute__((tls_model("initial-exec"))) = {nullptr, nullptr, 0, 0};
std::atomic<unsigned> context_generation{1};

pid_t armed_pid = 0;  // written once, before armed is published
std::atomic<bool> passing_through{false};

}  // namespace

Runtime::Runtime(Options given)
    : options(std::move(given)),
      listener(options),
      publisher(pool::ThreadSync::now_ns()),
      guard(options.guard ? std::make_unique<guard::Guard>(listener, options.guard_fill.pattern,
                                                           options.guard_fill.fill)
                          : nullptr),
      guard_stacks(listener.stacks()),
      pool(driver, doors::gate.beside.work_submitted, &listener,
           pool_config(
               options, listener, [this] { publisher.publish(pool); },
               [this](int device) { return memory_pools.peers_of(device); })),
      launches(options.trace_launches ? listener.writer() : nullptr) {
  listener.opened(pool);
  if (launches.on()) doors::gate.beside.watching.store(true, std::memory_order_relaxed);
  if (options.trace_launches && options.trace.empty()) {
    listener.say("warning",
                 "FLEXLOM_TRACE_LAUNCHES does nothing without FLEXLOM_TRACE: name a log there");
  }
  if (guard != nullptr) {
    if (listener.stacks().on()) guard->use(guard_stacks);
    listener.also_tell(*guard);
    doors::gate.beside.guarding.store(true, std::memory_order_relaxed);
    doors::gate.beside.watching.store(true, std::memory_order_relaxed);
  }
  soft_oom_.store(options.soft_oom == SoftOom::on, std::memory_order_relaxed);
}

CUresult Runtime::current(CUcontext* context, int* device, CUcontext* own) noexcept {
  const auto get_current = FLEXLOM_ORIGINAL(cuCtxGetCurrent);
  if (get_current == nullptr) return CUDA_ERROR_NOT_INITIALIZED;
  const CUresult r = get_current(context);
  if (r != CUDA_SUCCESS) return r;
  if (*context == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
  if (own != nullptr) *own = *context;
  const unsigned generation = context_generation.load(std::memory_order_acquire);
  if (last_context.context == *context && last_context.generation == generation) [[likely]] {
    *context = last_context.owner;
    *device = last_context.device;
    return CUDA_SUCCESS;
  }
  if (destroyed_context_is_current()) return CUDA_ERROR_CONTEXT_IS_DESTROYED;
  CUdevice found = 0;
  const CUresult d = FLEXLOM_ORIGINAL(cuCtxGetDevice)(&found);
  if (d != CUDA_SUCCESS) return d;
  const CUcontext met = *context;
  if (const CUresult g = green_contexts.owner_of_current(found, context); g != CUDA_SUCCESS)
    return g;
  pool.add_context(*context);
  look_for_caching_allocator();
  last_context = {met, *context, found, generation};
  *device = found;
  return CUDA_SUCCESS;
}

namespace {

// Whether one of the callers up the stack is PyTorch's allocator. The libraries it calls allocate
// memory of their own in the same process, and take a refusal for the end.
struct StackSearch {
  uintptr_t begin, end;
  int frames;
  bool found;
};

_Unwind_Reason_Code look_at_frame(_Unwind_Context* frame, void* data) {
  auto* search = static_cast<StackSearch*>(data);
  const auto ip = static_cast<uintptr_t>(_Unwind_GetIP(frame));
  search->found = ip >= search->begin && ip < search->end;
  constexpr int kDeepest = 24;
  return search->found || ++search->frames > kDeepest ? _URC_END_OF_STACK : _URC_NO_REASON;
}

// Libraries are looked up without dlopen: it takes the loader's lock, which a thread that waits for
// this one may hold, and it replaces the text that dlerror() would give the program.
struct LibrarySearch {
  std::string_view name;
  uintptr_t begin = 0, end = 0;
};

int look_at_library(dl_phdr_info* info, size_t, void* data) {
  auto* search = static_cast<LibrarySearch*>(data);
  const std::string_view name = info->dlpi_name != nullptr ? info->dlpi_name : "";
  if (name.find(search->name) == name.npos) return 0;
  search->begin = info->dlpi_addr;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr)& segment = info->dlpi_phdr[i];
    if (segment.p_type != PT_LOAD) continue;
    search->end =
        std::max<uintptr_t>(search->end, info->dlpi_addr + segment.p_vaddr + segment.p_memsz);
  }
  return 1;
}

bool loaded(LibrarySearch& search) { return dl_iterate_phdr(&look_at_library, &search) == 1; }

bool called_by_caching_allocator() {
  // While it records CUDA graphs, PyTorch's allocator frees nothing and takes a refusal for the
  // end. It also does so in the warm-up runs of torch.compile's graphs, which no driver call
  // announces; those need Triton, so with Triton loaded nothing is refused.
  LibrarySearch triton{"/libtriton.so"};
  LibrarySearch allocator{"/libc10_cuda.so"};
  if (loaded(triton) || !loaded(allocator)) return false;
  StackSearch search{allocator.begin, allocator.end, 0, false};
  _Unwind_Backtrace(&look_at_frame, &search);
  return search.found;
}

bool always() { return true; }

}  // namespace

bool (*Runtime::trimming_caller() noexcept)() {
  if (!soft_oom_.load(std::memory_order_relaxed) || pool.fence().capture_open()) return nullptr;
  return options.soft_oom == SoftOom::on ? &always : &called_by_caching_allocator;
}

// PyTorch's allocator answers a failed allocation by freeing its cache and asking again.
void Runtime::look_for_caching_allocator() noexcept {
  if (options.soft_oom != SoftOom::automatic || soft_oom_.load(std::memory_order_relaxed)) return;
  LibrarySearch allocator{"/libc10_cuda.so"};
  if (loaded(allocator)) soft_oom_.store(true, std::memory_order_relaxed);
}

void Runtime::context_ended(CUcontext context) noexcept {
  InsidePool inside;
  {
    std::lock_guard lock(mutex_);
    ended_.push_back(context);
    any_ended_.store(true, std::memory_order_release);
  }
  forget_current();
  const stacks::Caller caller(listener.stacks());
  pool.end_context(context);
}

void Runtime::context_born(CUcontext context) noexcept {
  InsidePool inside;
  pool.add_context(context);
  if (!any_ended_.load(std::memory_order_acquire)) return;
  std::lock_guard lock(mutex_);
  if (std::erase(ended_, context) > 0) forget_current();
  any_ended_.store(!ended_.empty(), std::memory_order_release);
}

void Runtime::forget_current() noexcept {
  context_generation.fetch_add(1, std::memory_order_acq_rel);
}

bool Runtime::destroyed_context_is_current() noexcept {
  if (!any_ended_.load(std::memory_order_acquire)) return false;
  CUcontext context = nullptr;
  if (FLEXLOM_ORIGINAL(cuCtxGetCurrent)(&context) != CUDA_SUCCESS || context == nullptr)
    return false;
  std::lock_guard lock(mutex_);
  return std::find(ended_.begin(), ended_.end(), context) != ended_.end();
}

CUresult Runtime::driver_gone() const noexcept {
  if (!exiting_.load(std::memory_order_relaxed)) [[likely]]
    return CUDA_SUCCESS;
  CUcontext context = nullptr;
  const CUresult r = FLEXLOM_ORIGINAL(cuCtxGetCurrent)(&context);
  return r == CUDA_ERROR_DEINITIALIZED ? r : CUDA_SUCCESS;
}

void Runtime::finish() noexcept {
  static std::atomic<bool> done{false};
  // Interrupted within: see stop_threads(). The log ends without its last record.
  if (InsidePool::already() || done.exchange(true)) return;
  if (guard != nullptr) guard->finish();
  listener.statistics(options.stats || options.stats_every.seconds > 0);
  if (options.coverage) listener.coverage();
  if (trace::Writer* writer = listener.writer()) {
    writer->end("exit");
    writer->stop_thread();
    writer->flush_now();
  }
}

namespace detail {

std::atomic<WipedPage*> page{nullptr};

// Null for setuid and setgid programs: their environment is another user's.
const char* safe_getenv(const char* name) { return secure_getenv(name); }

namespace {

WipedPage* make_page() noexcept {
  void* p = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return nullptr;
  if (madvise(p, 4096, MADV_WIPEONFORK) != 0) {
    munmap(p, 4096);
    return nullptr;
  }
  return static_cast<WipedPage*>(p);
}

void report_option_errors(Listener& listener, const std::vector<OptionError>& errors) {
  for (const OptionError& e : errors) {
    listener.say("warning", fmt::format("{}=\"{}\" is not understood (accepted: {}); using {}",
                                        e.variable, e.text, e.accepted, e.used));
  }
}

Runtime* make_runtime() {
  std::vector<OptionError> errors;
  Options options = parse_options(&safe_getenv, &errors);
  const bool stop = options.strict && !errors.empty();
  auto made = std::make_unique<Runtime>(std::move(options));
  report_option_errors(made->listener, errors);
  if (stop) {
    made->listener.say("error", "stopping, because FLEXLOM_STRICT is set");
    _exit(125);
  }
  if (trace::Writer* writer = made->listener.writer()) {
    trace::Header header;
    header.version = FLEXLOM_VERSION;
    int version = 0;
    if (const auto get = FLEXLOM_ORIGINAL(cuDriverGetVersion)) get(&version);
    header.driver_version = version;
    header.host_budget_bytes = made->pool.host_budget().limit();
    int count = 0;
    if (const auto get = FLEXLOM_ORIGINAL(cuDeviceGetCount)) {
      if (get(&count) != CUDA_SUCCESS) count = 0;
    }
    for (int i = 0; i < count; ++i) {
      trace::DeviceInfo info{i, {}, {}, 0, 0};
      char name[256] = "";
      if (FLEXLOM_ORIGINAL(cuDeviceGetName)(name, sizeof name, i) == CUDA_SUCCESS) info.name = name;
      CUuuid uuid{};
      if (const auto get = FLEXLOM_ORIGINAL(cuDeviceGetUuid_v2);
          get != nullptr && get(&uuid, i) == CUDA_SUCCESS) {
        for (const char c : uuid.bytes)
          info.uuid += fmt::format("{:02x}", static_cast<unsigned char>(c));
      }
      size_t total = 0;
      if (FLEXLOM_ORIGINAL(cuDeviceTotalMem_v2)(&total, i) == CUDA_SUCCESS)
        info.total_bytes = total;
      // What is free, and so the default, is known when the device has a context: the statistics at
      // that point say it.
      const Limit limit = made->options.device_limit.for_device(i);
      if (limit.kind != Limit::Kind::unset)
        info.budget_bytes = limit.of(total) & ~uint64_t{pool::kGranule - 1};
      header.devices.push_back(std::move(info));
    }
    writer->header(header);
  }
  if (made->options.verbose) {
    made->listener.say(
        "info", fmt::format("active: version {}, host budget {} MiB{}", FLEXLOM_VERSION,
                            made->pool.host_budget().limit() >> 20,
                            made->listener.tracing() ? ", log " + made->listener.writer()->path()
                                                     : std::string()));
  }
  return made.release();  // lives as long as the process: hooks may run until its last moment
}

// Whoever leaves for good is not held up by a kernel that our threads wait for.
constexpr uint64_t kLongestExit_ms = 2000;

void stop_threads(Runtime& r) {
  if (InsidePool::already()) {
    // exit() in a signal handler that interrupted us: our locks may be held, by this very thread.
    r.exiting();
    r.pool.leave_threads();
    return;
  }
  if (r.guard != nullptr && r.driver_gone() == CUDA_SUCCESS) {
    const InsidePool inside;
    r.guard->check_all();
  }
  r.exiting();
  r.exporter.stop();
  r.pool.stop_threads_within(kLongestExit_ms);
}

void stop_threads_at_exit() {
  // Before the driver's own exit handlers, which were registered earlier: our threads must not call
  // a driver that is shutting down. The hooks go on working for the handlers that follow.
  const WipedPage* p = page.load(std::memory_order_acquire);
  if (p == nullptr) return;
  if (Runtime* r = p->armed.load(std::memory_order_acquire)) stop_threads(*r);
}

}  // namespace

Runtime* arm() noexcept {
  if (passing_through.load(std::memory_order_relaxed)) return nullptr;
  // Made before, but not on the page: this is a child of the process that made it.
  if (armed_pid != 0) return nullptr;
  if (!doors::find_originals()) return nullptr;
  const auto get_current = FLEXLOM_ORIGINAL(cuCtxGetCurrent);
  CUcontext context = nullptr;
  if (get_current == nullptr || get_current(&context) != CUDA_SUCCESS)
    return nullptr;  // before cuInit
  static std::mutex mutex;
  if (InsidePool::already()) return nullptr;
  InsidePool inside;
  std::lock_guard lock(mutex);
  WipedPage* p = page.load(std::memory_order_acquire);
  if (p != nullptr) return p->armed.load(std::memory_order_acquire);
  try {
    const char* off = secure_getenv("FLEXLOM_DISABLE");
    if (off != nullptr && parse_options(&safe_getenv, nullptr).disable) {
      passing_through.store(true, std::memory_order_relaxed);
      return nullptr;
    }
    p = make_page();
    if (p == nullptr) {
      passing_through.store(true, std::memory_order_relaxed);
      return nullptr;
    }
    Runtime* made = make_runtime();
    armed_pid = getpid();
    p->armed.store(made, std::memory_order_release);
    page.store(p, std::memory_order_release);
    atexit(&stop_threads_at_exit);
    return made;
  } catch (...) {
    passing_through.store(true, std::memory_order_relaxed);
    return nullptr;
  }
}

}  // namespace detail

// Handlers that were there before the loader's own, which runs every destructor, come after it.
// That of on_exit is called whether or not this library has been finalised, with the status.
__attribute__((constructor)) static void register_leak_check() {
  const char* on = secure_getenv("FLEXLOM_LEAK_CHECK");
  if (on == nullptr || !parse_options(&detail::safe_getenv, nullptr).leak_check) return;
  on_exit(
      +[](int status, void*) {
        const detail::WipedPage* p = detail::page.load(std::memory_order_acquire);
        Runtime* r = p != nullptr ? p->armed.load(std::memory_order_acquire) : nullptr;
        // Never used CUDA, a child of what did, or interrupted within: see stop_threads().
        if (r == nullptr || InsidePool::already()) return;
        const int changed = r->options.error_exitcode.status;
        // exit() in a handler goes on with the handlers that are left, and with this status.
        if (r->listener.leaks() && changed != 0 && status == 0) exit(changed);
      },
      nullptr);
}

// After every exit handler of the program; no driver call is made from here.
__attribute__((destructor)) static void finish_at_unload() {
  const detail::WipedPage* p = detail::page.load(std::memory_order_acquire);
  if (p != nullptr) {
    if (Runtime* r = p->armed.load(std::memory_order_acquire)) r->finish();
    return;
  }
  // Never armed, but driver names were looked up and led past us: who asked for coverage wants to
  // know.
  if (doors::unknown_addresses().count == 0 || secure_getenv("FLEXLOM_COVERAGE") == nullptr) return;
  Options options = parse_options(&detail::safe_getenv, nullptr);
  if (!options.coverage) return;
  options.trace.clear();
  Listener(options).coverage();
}

}  // namespace flexlom
