#include "interpose/trace/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <new>

#include "interpose/trace/clock.h"
#include "interpose/trace/json_text.h"
#include "interpose/trace/line_buffer.h"
#include "interpose/trace/log_file.h"
#include "interpose/trace/overhead.h"
#include "interpose/trace/path_template.h"

namespace flexlom::trace {
namespace {

constexpr size_t buffer_bytes = size_t{4} << 20;  // two of these; untouched pages cost nothing
constexpr auto flush_interval = std::chrono::milliseconds(50);
constexpr auto stop_patience = std::chrono::seconds(2);

thread_local pid_t cached_tid = 0;  // reset by abandon(): a forked child is another thread

pid_t thread_id() {
  if (cached_tid == 0) cached_tid = static_cast<pid_t>(syscall(SYS_gettid));
  return cached_tid;
}

void warn_on_stderr(const char* text) noexcept {
  char line[512];
  size_t size = 0;
  auto put = [&](std::string_view part) {
    for (char c : part) {
      if (size + 1 < sizeof line) line[size++] = c;
    }
  };
  char pid[16];
  size_t digits = 0;
  for (auto rest = static_cast<unsigned>(getpid()); rest != 0; rest /= 10)
    pid[digits++] = static_cast<char>('0' + rest % 10);
  put("flexlom[");
  while (digits != 0) put({&pid[--digits], 1});
  put("]: warning: ");
  put(text);
  line[size++] = '\n';
  // One write, so that lines of several processes do not mix. Nothing can be done if it fails.
  [[maybe_unused]] ssize_t written = write(STDERR_FILENO, line, size);
}

// A write beyond RLIMIT_FSIZE or into a closed FIFO must fail in our hands, not end the program
// with SIGXFSZ or SIGPIPE. A signal that our own write raised is taken back before unblocking.
class SignalShield {
 public:
  SignalShield() {
    sigemptyset(&set_);
    sigaddset(&set_, SIGXFSZ);
    sigaddset(&set_, SIGPIPE);
    sigset_t pending;
    sigpending(&pending);
    was_pending_ = sigismember(&pending, SIGXFSZ) == 1 || sigismember(&pending, SIGPIPE) == 1;
    pthread_sigmask(SIG_BLOCK, &set_, &before_);
  }
  ~SignalShield() {
    timespec none{};
    if (!was_pending_) {
      while (sigtimedwait(&set_, nullptr, &none) > 0) {
      }
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

 private:
  sigset_t set_, before_;
  bool was_pending_;
};

// The arguments of this process, cut after about 8 KiB.
void append_command_line(std::string& out) {
  char text[8192];
  int fd = ::open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
  ssize_t size = fd < 0 ? 0 : read(fd, text, sizeof text);
  if (fd >= 0) close(fd);
  std::string_view rest(text, size > 0 ? static_cast<size_t>(size) : 0);
  out += '[';
  for (bool first = true; !rest.empty(); first = false) {
    size_t end = rest.find('\0');
    if (!first) out += ',';
    append_json(out, rest.substr(0, end));
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
  }
  out += ']';
}

}  // namespace

// In memory of its own, because a forked child has to leave it behind, locks held or not.
struct Writer::State {
  State(LogFile log, const std::string& path_as_opened, Warn on_warning, char* both_buffers)
      : file(std::move(log)),
        path(path_as_opened),
        warn(on_warning),
        memory(both_buffers),
        spare(memory + buffer_bytes),
        buffer(memory) {}

  LogFile file;            // guarded by file_lock
  const std::string path;  // for the warning
  const Warn warn;
  char* const memory;

  // Order of locks: file_lock, then lock. The program's threads take only `lock`, for a copy.
  std::mutex file_lock;  // held while writing; guards spare, failed
  char* spare;
  bool failed = false;

  std::mutex lock;  // guards what follows
  std::condition_variable wake;
  std::condition_variable ended;
  char* buffer;
  size_t used = 0;
  uint64_t records = 0, dropped = 0, dropped_in_all = 0;
  bool started = false, stopping = false, thread_ended = false;
  bool sleeping = false;  // the thread waits for a first record and must be woken

  std::atomic<bool> synchronous{false};  // set once, by stop_thread()
  std::atomic<bool> given_up{false};     // the disk is stuck: record nothing
  pthread_t thread{};

  // Requires file_lock.
  void write_all(const char* data, size_t size) noexcept {
    if (failed) return;
    if (int code = file.write(data, size); code != 0) fail(code);
  }

  // Requires file_lock.
  void fail(int code) noexcept {
    failed = true;
    char text[512], reason[128] = "";
    const char* message = strerror_r(code, reason, sizeof reason);
    size_t size = 0;
    for (std::string_view part :
         {std::string_view("trace log "), std::string_view(path), std::string_view(": "),
          std::string_view(message), std::string_view("; the log ends here")}) {
      for (char c : part) {
        if (size + 1 < sizeof text) text[size++] = c;
      }
    }
    text[size] = '\0';
    warn(text);
  }

  // Hands everything recorded so far to the kernel.
  void drain() noexcept {
    std::lock_guard file_guard(file_lock);
    size_t size = 0;
    uint64_t lost = 0;
    {
      std::lock_guard guard(lock);
      std::swap(buffer, spare);
      std::swap(size, used);
      std::swap(lost, dropped);
    }
    write_all(spare, size);
    if (lost != 0) {
      LineBuffer line("drop");
      line.number("t", Writer::now_ns());
      line.number("count", lost);
      std::string_view text = line.finish();
      write_all(text.data(), text.size());
    }
  }

  void run() noexcept {
    pthread_setname_np(pthread_self(), "flexlom-trace");
    std::unique_lock guard(lock);
    // Once more after `stopping`: the last drain must be here, where a stuck disk holds nobody.
    for (bool last = false; !last;) {
      if (used == 0 && dropped == 0) {
        sleeping = true;
        wake.wait(guard, [this] { return used != 0 || dropped != 0 || stopping; });
        sleeping = false;
      }
      wake.wait_for(guard, flush_interval, [this] { return stopping || used > buffer_bytes / 2; });
      last = stopping;
      guard.unlock();
      drain();
      guard.lock();
    }
    thread_ended = true;
    ended.notify_all();
  }

  // Requires `lock`. Without a thread the records are written by their callers.
  void start_thread() noexcept {
    started = true;
    sigset_t all, before;
    sigfillset(&all);  // the program's handlers must never run on a thread of ours
    pthread_sigmask(SIG_SETMASK, &all, &before);
    auto body = [](void* state) -> void* {
      static_cast<State*>(state)->run();
      return nullptr;
    };
    if (pthread_create(&thread, nullptr, body, this) != 0) {
      thread_ended = true;
      synchronous = true;
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }
};

std::unique_ptr<Writer> Writer::open(const std::string& path_template, std::string* error,
                                     Warn warn) {
  std::string message;
  std::optional<std::string> path = expand_path_template(
      path_template, [](const char* name) -> const char* { return secure_getenv(name); }, &message);
  if (path) {
    std::optional<LogFile> file = LogFile::open(*path);
    if (file) {
      std::unique_ptr<Writer> writer(new (std::nothrow) Writer(*path, std::move(*file), warn));
      if (writer != nullptr && writer->state_.load() != nullptr) return writer;
      errno = ENOMEM;
    }
    char reason[128] = "";
    message = *path + ": " + strerror_r(errno, reason, sizeof reason);
  }
  if (error != nullptr) *error = message;
  return nullptr;
}

Writer::Writer(std::string path, LogFile file, Warn warn)
    : path_(std::move(path)), state_(nullptr) {
  void* memory = mmap(nullptr, 2 * buffer_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  State* state = nullptr;
  if (memory != MAP_FAILED) {
    state =
        new (std::nothrow) State(std::move(file), path_, warn != nullptr ? warn : warn_on_stderr,
                                 static_cast<char*>(memory));
    if (state == nullptr) munmap(memory, 2 * buffer_bytes);
  }
  state_ = state;
}

Writer::~Writer() {
  stop_thread();
  State* state = state_.exchange(nullptr);
  if (state == nullptr || state->given_up) return;  // a stuck thread still uses its state
  munmap(state->memory, 2 * buffer_bytes);
  delete state;
}

bool Writer::append(std::string_view line, Write write) noexcept {
  State* state = state_.load(std::memory_order_acquire);
  if (state == nullptr || state->given_up.load(std::memory_order_relaxed)) return true;
  bool recorded = true;
  {
    std::lock_guard guard(state->lock);
    if (!state->started) state->start_thread();
    state->records++;
    if (state->used + line.size() > buffer_bytes) {
      recorded = false;
      state->dropped++;
      state->dropped_in_all++;
    } else {
      memcpy(state->buffer + state->used, line.data(), line.size());
      bool was_below = state->used <= buffer_bytes / 2;
      state->used += line.size();
      // The thread that writes the buffer out had these lines last: they are on their way back to
      // this processor by the time of the next record.
      for (size_t ahead = 64; ahead <= 256; ahead += 64)
        asm volatile("prefetchw %0" : : "m"(state->buffer[state->used + ahead]));
      // One wake-up per flush, not per record: when asleep, and when the buffer is half full.
      if (state->sleeping || (was_below && state->used > buffer_bytes / 2)) {
        state->sleeping = false;
        state->wake.notify_one();
      }
    }
  }
  if (write == Write::now && state->synchronous.load(std::memory_order_acquire)) flush_now();
  return recorded;
}

void Writer::event(std::string_view kind, const Event& event, Write write, Thread thread) noexcept {
  const Overhead::Use use;
  LineBuffer line(kind);
  if (event.seq != 0) line.number("seq", event.seq);
  line.number("t", event.t_ns != 0 ? event.t_ns : now_ns());
  if (thread == Thread::named) line.number("tid", static_cast<uint64_t>(thread_id()));
  if (event.device >= 0) line.number("device", static_cast<uint64_t>(event.device));
  if (event.stream != 0) line.hex("stream", event.stream);
  if (event.address != 0) line.hex("address", event.address);
  if (event.asked_bytes != 0) line.number("asked_bytes", event.asked_bytes);
  if (event.given_bytes != 0) line.number("given_bytes", event.given_bytes);
  if (event.extra_bytes != 0) line.number("extra_bytes", event.extra_bytes);
  if (event.call != nullptr) line.literal("call", event.call);
  if (event.code != 0) line.signed_number("code", event.code);
  if (event.note != nullptr) line.text("note", event.note);
  if (event.frame != 0) line.number("frame", event.frame);
  append(line.finish(), write);
}

uint64_t Writer::now_ns() noexcept { return monotonic_ns(); }

void Writer::request(const Event& e) noexcept { event("request", e); }

// These two are most of every log: what another record says is left out.
void Writer::alloc(const Event& e) noexcept {
  Event rest = e;
  if (rest.given_bytes == rest.asked_bytes) rest.given_bytes = 0;
  if (rest.seq == 0) return event("alloc", rest);
  rest.call = nullptr;
  rest.stream = 0;
  event("alloc", rest, Write::now, Thread::of_request);
}

void Writer::free(const Event& e) noexcept {
  Event rest = e;
  rest.asked_bytes = rest.given_bytes = rest.extra_bytes = 0;
  event("free", rest);
}

void Writer::spill(const Event& e) noexcept { event("spill", e); }
void Writer::map(const Event& e) noexcept { event("map", e); }
void Writer::unmap(const Event& e) noexcept { event("unmap", e); }
void Writer::out_of_memory(const Event& e) noexcept { event("out_of_memory", e); }
void Writer::promote(const Event& e) noexcept { event("promote", e, Write::later); }
void Writer::demote(const Event& e) noexcept { event("demote", e, Write::later); }
void Writer::gave_up(const Event& e) noexcept { event("gave_up", e, Write::later); }

// Paths are of any length and in any script, and name files that a reader has to find. They are
// few.
bool Writer::append_with_path(LineBuffer line, std::string_view path) noexcept {
  try {
    std::string text(line.finish());
    text.resize(text.size() - 2);  // open again
    text += R"(,"path":)";
    append_json(text, path);
    return append(text + "}\n");
  } catch (...) {
    return false;
  }
}

bool Writer::module(const ModuleInfo& module) noexcept {
  LineBuffer line("module");
  line.hex("base", module.base);
  line.hex("begin", module.begin);
  line.hex("end", module.end);
  if (!module.build_id.empty()) line.text("build_id", module.build_id);
  return append_with_path(line, module.path);
}

bool Writer::frame(uint32_t id, uint32_t parent, uint64_t address) noexcept {
  LineBuffer line("frame");
  line.number("id", id);
  if (parent != 0) line.number("parent", parent);
  line.hex("ip", address);
  return append(line.finish());
}

bool Writer::perf_map(std::string_view path) noexcept {
  return append_with_path(LineBuffer("perf_map"), path);
}

void Writer::warning(const char* text) noexcept {
  LineBuffer line("warning");
  line.number("t", now_ns());
  line.number("tid", static_cast<uint64_t>(thread_id()));
  line.text("text", text != nullptr ? text : "");
  append(line.finish());
}

void Writer::guard(const char* bug, std::string_view text, uint32_t stack) noexcept {
  LineBuffer line("guard");
  line.number("t", now_ns());
  line.number("tid", static_cast<uint64_t>(thread_id()));
  if (bug != nullptr) line.literal("bug", bug);
  if (stack != 0) line.number("frame", stack);
  line.text("text", text);
  append(line.finish());
}

void Writer::stats(const Stats& stats) noexcept {
  LineBuffer line("stats");
  line.number("t", now_ns());
  if (stats.device >= 0) line.number("device", static_cast<uint64_t>(stats.device));
  line.number("budget_bytes", stats.budget_bytes);
  line.number("held_bytes", stats.held_bytes);
  line.number("peak_held_bytes", stats.peak_held_bytes);
  line.number("host_budget_bytes", stats.host_budget_bytes);
  line.number("host_held_bytes", stats.host_held_bytes);
  line.number("host_peak_held_bytes", stats.host_peak_held_bytes);
  line.number("live_bytes", stats.live_bytes);
  line.number("live_count", stats.live_count);
  line.number("peak_live_bytes", stats.peak_live_bytes);
  line.number("allocs", stats.allocs);
  line.number("frees", stats.frees);
  line.number("spilled_bytes", stats.spilled_bytes);
  line.number("failures", stats.failures);
  append(line.finish());
}

void Writer::moves(const MoveTotals& moves) noexcept {
  LineBuffer line("moves");
  line.number("t", now_ns());
  line.number("promoted_pages", moves.promoted_pages);
  line.number("promoted_bytes", moves.promoted_bytes);
  line.number("demoted_pages", moves.demoted_pages);
  line.number("demoted_bytes", moves.demoted_bytes);
  line.number("demoted_copied_bytes", moves.demoted_copied_bytes);
  line.number("clean_pages", moves.clean_pages);
  line.number("given_up", moves.given_up);
  line.number("batches", moves.batches);
  line.number("shut_ns", moves.shut_ns);
  line.number("longest_shut_ns", moves.longest_shut_ns);
  line.number("in_place", moves.in_place);
  line.number("in_place_bytes", moves.in_place_bytes);
  append(line.finish());
}

void Writer::end(const char* reason) noexcept {
  State* state = state_.load(std::memory_order_acquire);
  if (state == nullptr) return;
  uint64_t records = 0, dropped = 0;
  {
    std::lock_guard guard(state->lock);
    records = state->records;
    dropped = state->dropped_in_all;
  }
  LineBuffer line("end");
  line.number("t", now_ns());
  line.number("records", records);
  line.number("dropped", dropped);
  if (const uint64_t took_ns = Overhead::estimate_ns(); took_ns != 0)
    line.number("overhead_ns", took_ns);
  line.text("reason", reason != nullptr ? reason : "exit");
  append(line.finish());
}

void Writer::header(const Header& header) noexcept {
  try {
    char host[HOST_NAME_MAX + 1] = "";
    gethostname(host, HOST_NAME_MAX);
    auto field = [](const char* name, uint64_t value) {
      return std::string(",\"") + name + "\":" + std::to_string(value);
    };
    std::string line = R"({"kind":"header","format":)" + std::to_string(format_version);
    line += R"(,"version":)";
    append_json(line, header.version);
    line += field("driver_version", static_cast<uint64_t>(header.driver_version));
    line += field("pid", static_cast<uint64_t>(getpid())) + R"(,"host":)";
    append_json(line, host);
    // Wall and monotonic time of one moment: every "t" can be turned into a date.
    line += field("t", now_ns()) + field("wall_ns", time_ns(CLOCK_REALTIME));
    line += field("host_budget_bytes", header.host_budget_bytes) + R"(,"command":)";
    append_command_line(line);
    line += R"(,"devices":[)";
    for (size_t i = 0; i < header.devices.size(); i++) {
      const DeviceInfo& device = header.devices[i];
      line += (i != 0 ? "," : "") + std::string(R"({"ordinal":)") + std::to_string(device.ordinal);
      line += R"(,"name":)";
      append_json(line, device.name);
      line += R"(,"uuid":)";
      append_json(line, device.uuid);
      line += field("total_bytes", device.total_bytes);
      if (device.budget_bytes != 0) line += field("budget_bytes", device.budget_bytes);
      line += "}";
    }
    append(line + "]}\n");
  } catch (...) {
    warning("no memory for the header of the trace log");
  }
}

void Writer::flush_now() noexcept {
  State* state = state_.load(std::memory_order_acquire);
  if (state == nullptr || state->given_up) return;
  SignalShield shield;
  state->drain();
}

void Writer::stop_thread() noexcept {
  State* state = state_.load(std::memory_order_acquire);
  if (state == nullptr) return;
  {
    std::unique_lock guard(state->lock);
    if (state->stopping) return;
    state->stopping = true;
    if (state->started && !state->thread_ended) {
      state->wake.notify_all();
      if (!state->ended.wait_for(guard, stop_patience, [state] { return state->thread_ended; })) {
        state->given_up = true;
        return;
      }
      guard.unlock();
      pthread_join(state->thread, nullptr);
      guard.lock();
    }
    // Set under the lock that recorders copy under: after this, nobody fills the buffer again.
    state->started = true;
    state->synchronous = true;
  }
  flush_now();
}

void Writer::abandon() noexcept {
  cached_tid = 0;
  Overhead::forget();
  State* state = state_.exchange(nullptr);
  if (state == nullptr) return;
  state->file.close();
  munmap(state->memory, 2 * buffer_bytes);
  // The state itself leaks: its locks may have been held by threads that do not exist here.
}

}  // namespace flexlom::trace
