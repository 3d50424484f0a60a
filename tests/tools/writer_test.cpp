#include "interpose/trace/writer.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <set>
#include <thread>

#include "interpose/trace/json_line.h"
#include "interpose/trace/overhead.h"
#include "tests/tools/scratch.h"

namespace {

using namespace flexlom;
using trace::Event;
using trace::JsonLine;
using trace::Writer;

std::atomic<int> warnings{0};
void count_warning(const char*) noexcept { warnings++; }

std::unique_ptr<Writer> open_at(const std::string& path) {
  std::string error;
  warnings = 0;
  auto writer = Writer::open(path, &error, count_warning);
  INFO(error);
  REQUIRE(writer != nullptr);
  return writer;
}

Event some_event(uint64_t seq) {
  Event event;
  event.call = "cuMemAlloc_v2";
  event.device = 0;
  event.seq = seq;
  event.address = 0x500000000000 + seq * 512;
  event.asked_bytes = 100;
  event.given_bytes = 512;
  return event;
}

size_t count_kind(const std::vector<std::string>& lines, const std::string& kind) {
  JsonLine json;
  return static_cast<size_t>(std::count_if(
      lines.begin(), lines.end(),
      [&](const std::string& line) { return json.parse(line) && json.text("kind") == kind; }));
}

bool waits_for(const std::string& path, const std::string& text) {
  for (int i = 0; i < 200; i++) {
    if (read_whole(path).find(text) != std::string::npos) return true;
    usleep(5000);
  }
  return false;
}

}  // namespace

TEST_CASE("every record is one JSON object with what was given") {
  Scratch scratch;
  auto writer = open_at(scratch / "deep/er/log.jsonl");
  writer->header({"0.1.0", 13000, {{1, "a \"GPU\"", "GPU-12", 1 << 30, 1 << 20}}, 4096});
  Event event = some_event(9);
  event.stream = 0xabc;
  event.extra_bytes = 256;
  event.code = 2;
  event.note = "say \"why\"\n";
  writer->request(event);
  writer->alloc(event);
  writer->spill(event);
  writer->map(event);
  writer->unmap(event);
  writer->free(event);
  writer->out_of_memory(event);
  writer->warning("hm");
  writer->guard("refused_free", "freed \"twice\"", 9);
  trace::Stats stats;
  stats.device = 1;
  stats.live_bytes = 77;
  writer->stats(stats);
  writer->end("exit");
  writer->flush_now();

  std::vector<std::string> lines = read_lines(writer->path());
  REQUIRE(lines.size() == 12);
  JsonLine json;
  const char* kinds[] = {"header", "request",       "alloc",   "spill", "map",   "unmap",
                         "free",   "out_of_memory", "warning", "guard", "stats", "end"};
  for (size_t i = 0; i < lines.size(); i++) {
    REQUIRE(json.parse(lines[i]));
    CHECK(json.text("kind") == kinds[i]);
    CHECK(json.number("t") > 0u);
  }
  REQUIRE(json.parse(lines[0]));
  CHECK(json.number("format") == static_cast<uint64_t>(trace::format_version));
  CHECK(json.number("pid") == static_cast<uint64_t>(getpid()));
  CHECK(json.number("wall_ns") > 1'600'000'000'000'000'000u);
  CHECK(json.elements("command").size() >= 1);
  JsonLine device;
  REQUIRE(device.parse(json.elements("devices").at(0)));
  CHECK(device.text("name") == "a \"GPU\"");
  // What an alloc leaves to its request, and a free to its alloc.
  REQUIRE(json.parse(lines[1]));
  CHECK(json.number("seq") == 9u);
  CHECK(json.number("tid") == static_cast<uint64_t>(gettid()));
  CHECK(json.hex("stream") == 0xabcu);
  CHECK(json.text("call") == "cuMemAlloc_v2");
  REQUIRE(json.parse(lines[6]));
  CHECK(json.hex("address") == 0x500000000000u + 9 * 512);
  CHECK_FALSE(json.number("asked_bytes").has_value());
  CHECK(json.text("call") == "cuMemAlloc_v2");
  REQUIRE(json.parse(lines[2]));
  CHECK(json.number("seq") == 9u);
  CHECK_FALSE(json.text("call").has_value());
  CHECK(json.number("device") == 0u);
  CHECK(json.hex("address") == 0x500000000000u + 9 * 512);
  CHECK(json.number("asked_bytes") == 100u);
  CHECK(json.number("given_bytes") == 512u);
  CHECK(json.number("extra_bytes") == 256u);
  CHECK(json.integer("code") == 2);
  CHECK(json.text("note") == "say \"why\"\n");
  REQUIRE(json.parse(lines[9]));
  CHECK(json.text("bug") == "refused_free");
  CHECK(json.text("text") == "freed \"twice\"");
  CHECK(json.number("frame") == 9u);
  REQUIRE(json.parse(lines[11]));
  CHECK(json.number("records") == 11u);
  CHECK(json.number("dropped") == 0u);
}

TEST_CASE("the last record says what recording took") {
  Scratch scratch;
  const auto record = [&](int events) {
    auto writer = open_at(scratch / "log");
    const std::string path = writer->path();
    const uint64_t before_ns = Writer::now_ns();
    // A thread of its own: each times the same of its records.
    std::thread([&] {
      for (int i = 0; i < events; ++i) writer->request(some_event(1));
    }).join();
    const uint64_t took_ns = Writer::now_ns() - before_ns;
    writer->end("exit");
    writer.reset();
    const std::vector<std::string> lines = read_lines(path);
    JsonLine json;  // points into the line
    REQUIRE(json.parse(lines.back()));
    return std::pair(json.number("overhead_ns"), took_ns);
  };
  trace::Overhead::forget();
  CHECK_FALSE(record(1).first.has_value());  // too few to say
  const auto [said, took] = record(20'000);
  REQUIRE(said.has_value());
  CHECK(*said > 0);
  // The timed ones are a sample, and one of them may have waited for a processor.
  CHECK(*said < 100 * took);
  trace::Overhead::forget();
  CHECK_FALSE(record(1).first.has_value());
}

TEST_CASE("the longest values still make a valid line") {
  Scratch scratch;
  auto writer = open_at(scratch / "log");
  std::string note(5000, '"');
  Event event = some_event(UINT64_MAX);
  event.stream = event.address = event.asked_bytes = event.given_bytes = event.extra_bytes =
      UINT64_MAX;
  event.code = INT32_MIN;
  event.device = INT32_MAX;
  event.note = note.c_str();
  writer->alloc(event);
  writer->warning(std::string(5000, '\\').c_str());
  writer->flush_now();
  JsonLine json;
  std::vector<std::string> lines = read_lines(writer->path());
  REQUIRE(lines.size() == 2);
  CHECK(json.parse(lines[1]));
  REQUIRE(json.parse(lines[0]));
  CHECK(json.number("extra_bytes") == UINT64_MAX);
  CHECK(json.integer("code") == INT32_MIN);
}

TEST_CASE("an existing file is kept and a numbered name is used") {
  Scratch scratch;
  scratch.write("log", "precious\n");
  scratch.write("log.1", "also\n");
  auto writer = open_at(scratch / "log");
  CHECK(writer->path() == scratch / "log.2");
  auto another = open_at(scratch / "log");
  CHECK(another->path() == scratch / "log.3");
  CHECK(read_whole(scratch / "log") == "precious\n");
  struct stat about {};
  REQUIRE(stat(writer->path().c_str(), &about) == 0);
  CHECK((about.st_mode & 077) == 0);
}

TEST_CASE("paths that cannot be written are errors that say why") {
  Scratch scratch;
  scratch.write("file", "");
  std::string error;
  CHECK(Writer::open(scratch / "file/below/log", &error) == nullptr);
  CHECK(error.find("Not a directory") != std::string::npos);
  CHECK(Writer::open("%z", &error) == nullptr);
  CHECK(error.find("%z") != std::string::npos);
  CHECK(Writer::open("%q{FLEXLOM_TEST_NO_SUCH_VARIABLE}", &error) == nullptr);
  CHECK(error.find("FLEXLOM_TEST_NO_SUCH_VARIABLE") != std::string::npos);
}

TEST_CASE("records reach the file by themselves within 100 ms") {
  Scratch scratch;
  auto writer = open_at(scratch / "log");
  writer->alloc(some_event(1));
  CHECK(waits_for(writer->path(), "\"seq\":1,"));
  usleep(150000);  // the thread is asleep now and has to be woken
  writer->alloc(some_event(2));
  CHECK(waits_for(writer->path(), "\"seq\":2,"));
}

TEST_CASE("threads write whole lines, each once") {
  Scratch scratch;
  auto writer = open_at(scratch / "log");
  constexpr uint64_t threads = 8, each = 2000;
  std::vector<std::thread> all;
  for (uint64_t t = 0; t < threads; t++) {
    all.emplace_back([&writer, t] {
      for (uint64_t i = 0; i < each; i++) writer->alloc(some_event(1 + t * each + i));
    });
  }
  for (std::thread& thread : all) thread.join();
  writer->stop_thread();
  JsonLine json;
  std::set<uint64_t> seen;
  for (const std::string& line : read_lines(writer->path())) {
    REQUIRE(json.parse(line));
    seen.insert(json.number("seq").value_or(0));
  }
  CHECK(seen.size() == threads * each);
}

TEST_CASE("after stop_thread records are written at once") {
  Scratch scratch;
  auto writer = open_at(scratch / "log");
  writer->alloc(some_event(1));
  writer->stop_thread();
  CHECK(read_lines(writer->path()).size() == 1);
  writer->alloc(some_event(2));
  CHECK(read_lines(writer->path()).size() == 2);
  writer->stop_thread();
  writer->end("exit");
  CHECK(read_lines(writer->path()).size() == 3);
}

TEST_CASE("a move is never written by who records it, and comes before what is recorded later") {
  Scratch scratch;
  auto writer = open_at(scratch / "log");
  writer->alloc(some_event(1));
  writer->stop_thread();
  Event event = some_event(0);
  event.note = "clean";
  writer->demote(event);
  event.note = "copied";
  writer->promote(event);
  event.note = "capture";
  writer->gave_up(event);
  CHECK(read_lines(writer->path()).size() == 1);
  trace::MoveTotals totals;
  totals.batches = 7;
  totals.shut_ns = UINT64_MAX;
  writer->moves(totals);
  std::vector<std::string> lines = read_lines(writer->path());
  REQUIRE(lines.size() == 5);
  const char* kinds[] = {"alloc", "demote", "promote", "gave_up", "moves"};
  const char* notes[] = {nullptr, "clean", "copied", "capture", nullptr};
  JsonLine json;
  for (size_t i = 1; i < lines.size(); i++) {
    REQUIRE(json.parse(lines[i]));
    CHECK(json.text("kind") == kinds[i]);
    if (notes[i] == nullptr) continue;
    CHECK(json.text("note") == notes[i]);
    CHECK(json.hex("address") == 0x500000000000u);
    CHECK(json.number("given_bytes") == 512u);
  }
  CHECK(json.number("batches") == 7u);
  CHECK(json.number("shut_ns") == UINT64_MAX);
  CHECK(json.number("in_place_bytes") == 0u);
}

TEST_CASE("a killed process loses at most what was not flushed") {
  Scratch scratch;
  std::string path = scratch / "log";
  pid_t child = fork();
  if (child == 0) {
    std::string error;
    auto writer = Writer::open(path, &error, count_warning);
    for (uint64_t i = 1; i <= 1000; i++) writer->alloc(some_event(i));
    usleep(300000);
    raise(SIGKILL);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFSIGNALED(status));
  CHECK(count_kind(read_lines(path), "alloc") == 1000);
}

TEST_CASE("a forked child leaves the parent's file alone and may open its own") {
  Scratch scratch;
  auto writer = open_at(scratch / "log");
  writer->alloc(some_event(1));
  std::atomic<bool> stop{false};
  std::thread busy([&] {
    for (uint64_t i = 2; !stop; i++) {
      writer->alloc(some_event(i));
      if (i % 64 == 0) usleep(100);
    }
  });
  for (int round = 0; round < 20; round++) {
    pid_t child = fork();
    if (child == 0) {
      writer->abandon();
      writer->alloc(some_event(4242));  // goes nowhere
      writer->flush_now();
      writer->stop_thread();
#if defined(__SANITIZE_THREAD__)
      _exit(0);  // ThreadSanitizer cannot start threads after a fork of many
#endif
      std::string error;
      auto own = Writer::open(scratch / "child", &error, count_warning);
      if (own == nullptr) _exit(2);
      own->alloc(some_event(7));
      own->stop_thread();
      _exit(read_lines(own->path()).size() == 1 ? 0 : 1);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
  }
  stop = true;
  busy.join();
  writer->stop_thread();
  JsonLine json;
  for (const std::string& line : read_lines(writer->path())) {
    REQUIRE(json.parse(line));
    CHECK(json.number("tid") != 0u);
  }
  CHECK(count_kind(read_lines(writer->path()), "alloc") > 1);
}

TEST_CASE("a full disk costs one warning") {
  auto writer = open_at("/dev/full");
  writer->alloc(some_event(1));
  writer->flush_now();
  writer->alloc(some_event(2));
  writer->flush_now();
  writer->stop_thread();
  writer->end("exit");
  CHECK(warnings == 1);
}

TEST_CASE("a limit on the file size costs one warning, and no signal") {
  Scratch scratch;
  pid_t child = fork();
  if (child == 0) {
    rlimit limit{4096, 4096};
    setrlimit(RLIMIT_FSIZE, &limit);
    std::string error;
    warnings = 0;
    auto writer = Writer::open(scratch / "log", &error, count_warning);
    for (uint64_t i = 1; i < 200; i++) writer->alloc(some_event(i));
    writer->stop_thread();
    writer->end("exit");
    _exit(warnings == 1 ? 0 : 1);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  CHECK(read_whole(scratch / "log").size() == 4096);
}

TEST_CASE("when nobody reads, records are dropped and counted, and the program goes on") {
  Scratch scratch;
  std::string fifo = scratch / "fifo";
  REQUIRE(mkfifo(fifo.c_str(), 0600) == 0);
  std::string error;
  CHECK(Writer::open(fifo, &error) == nullptr);  // a FIFO without a reader must not hold us

  int reader = open(fifo.c_str(), O_RDONLY | O_NONBLOCK);
  REQUIRE(reader >= 0);
  auto writer = open_at(fifo);
  CHECK(writer->path() == fifo);
  constexpr uint64_t events = 200000;  // far more than both buffers hold
  for (uint64_t i = 1; i <= events; i++) writer->alloc(some_event(i));

  std::atomic<bool> done{false};
  std::string text;
  std::thread drain([&] {
    char part[65536];
    for (;;) {
      ssize_t size = read(reader, part, sizeof part);
      if (size > 0) {
        text.append(part, static_cast<size_t>(size));
      } else if (done) {
        return;
      } else {
        usleep(1000);
      }
    }
  });
  writer->stop_thread();
  writer->end("exit");
  done = true;
  drain.join();
  close(reader);

  scratch.write("copy", text);
  JsonLine json;
  uint64_t allocs = 0, dropped = 0;
  for (const std::string& line : read_lines(scratch / "copy")) {
    REQUIRE(json.parse(line));
    allocs += json.text("kind") == "alloc";
    if (json.text("kind") == "drop") dropped += json.number("count").value_or(0);
  }
  CHECK(dropped > 0);
  CHECK(allocs + dropped == events);
}

TEST_CASE("a disk that never answers does not hold the end of the process") {
  Scratch scratch;
  std::string fifo = scratch / "fifo";
  REQUIRE(mkfifo(fifo.c_str(), 0600) == 0);
  int reader = open(fifo.c_str(), O_RDONLY | O_NONBLOCK);
  REQUIRE(reader >= 0);
  pid_t child = fork();
  if (child == 0) {
    std::string error;
    auto writer = Writer::open(fifo, &error, count_warning);
    for (uint64_t i = 1; i <= 5000; i++) writer->alloc(some_event(i));
    writer->stop_thread();
    writer->end("exit");
    writer->flush_now();
    writer.reset();
    _exit(0);
  }
  int status = 0;
  pid_t done = 0;
  for (int i = 0; i < 800 && done == 0; i++) {
    done = waitpid(child, &status, WNOHANG);
    if (done == 0) usleep(10000);
  }
  if (done == 0) kill(child, SIGKILL);
  CHECK(done == child);
  CHECK(status == 0);
  close(reader);
}

TEST_CASE("the writer's thread has a name and takes no signals") {
  Scratch scratch;
  auto writer = open_at(scratch / "log");
  writer->alloc(some_event(1));
  std::string status;
  for (int i = 0; i < 200 && status.empty(); i++, usleep(5000)) {
    for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
      std::string text = read_whole(task.path().string() + "/status");
      if (text.find("Name:\tflexlom-trace\n") != std::string::npos) status = text;
    }
  }
  size_t at = status.find("SigBlk:\t");
  REQUIRE(at != std::string::npos);
  uint64_t blocked = std::stoull(status.substr(at + 8, 16), nullptr, 16);
  for (int signal : {SIGINT, SIGTERM, SIGUSR1, SIGCHLD, SIGXFSZ})
    CHECK((blocked >> (signal - 1) & 1) == 1);
}
