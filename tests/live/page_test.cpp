// The page: its sequence lock, its file, and readers of broken, foreign and future ones.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <filesystem>
#include <thread>

#include "interpose/live/file.h"
#include "interpose/live/read.h"

using namespace flexlom::live;

namespace {

// A page in memory of the test's own.
struct Bench {
  alignas(4096) unsigned char memory[kPageBytes] = {};
  Page* page = new (memory) Page;
  size_t length = kPageBytes;
  int reads = 0;
  std::function<void(int)> before_read = [](int) {};

  Bench() {
    std::memcpy(page->head.magic, kMagic, sizeof kMagic);
    page->head.format = kFormat;
    page->head.page_bytes = kPageBytes;
    page->head.pid = 42;
    std::snprintf(page->head.version, sizeof page->head.version, "9.8.7");
    page->write(filled(0));
  }

  static Sample filled(unsigned char value) {
    Sample sample;
    std::memset(static_cast<void*>(&sample), value, sizeof sample);
    return sample;
  }
  Reading read() {
    return read_page([this](void* to, size_t bytes, size_t offset) {
      before_read(reads++);
      if (offset + bytes > length) return false;
      std::memcpy(to, memory + offset, bytes);
      return true;
    });
  }
};

// Whether all words but the strings' last bytes, which a reader sets, are the same.
bool is_torn(const Sample& sample) {
  uint64_t first = 0;
  std::memcpy(&first, &sample, sizeof first);
  return sample.now.at_ns != first || sample.before.in_place_bytes != first ||
         sample.host_peak_bytes != first || sample.devices[0].held_bytes != first ||
         sample.devices[7].live != first || sample.devices[kDevices - 1].failures != first ||
         sample.largest.host_bytes != first;
}

// The descriptors of this process that lead to a page's file.
std::vector<int> published_descriptors() {
  std::vector<int> found;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code error;
    const auto target = std::filesystem::read_symlink(entry.path(), error);
    if (!error && target.string().find(kFileName) != std::string::npos)
      found.push_back(std::stoi(entry.path().filename()));
  }
  return found;
}

const Process* find(const std::vector<Process>& processes, pid_t pid) {
  for (const Process& process : processes) {
    if (process.pid == pid) return &process;
  }
  return nullptr;
}

}  // namespace

TEST_CASE("live page: what was written is read") {
  Bench bench;
  Sample sample{};
  sample.now.promoted_bytes = 12345;
  sample.device_count = 1;
  std::snprintf(sample.devices[0].name, sizeof sample.devices[0].name, "a device");
  bench.page->write(sample);
  const Reading reading = bench.read();
  REQUIRE(reading.is_page());
  REQUIRE(reading.sample);
  CHECK(reading.problem.empty());
  CHECK(reading.head.pid == 42);
  CHECK(reading.sample->now.promoted_bytes == 12345);
  CHECK(std::string(reading.sample->devices[0].name) == "a device");
}

TEST_CASE("live page: a sample that changes while it is read is read again") {
  Bench bench;
  // The writer comes between the reader's look at the sequence and its copy of the words, and then
  // between the copy and the second look.
  const int when = GENERATE(2, 3);
  bench.before_read = [&](int read) {
    if (read == when) bench.page->write(Bench::filled(7));
  };
  const Reading reading = bench.read();
  REQUIRE(reading.sample);
  CHECK(bench.reads == 7);  // the head, and twice three
  CHECK(reading.sample->host_held_bytes == 0x0707070707070707);
}

TEST_CASE("live page: half of a sample is never shown") {
  Bench bench;
  // As after a SIGSTOP in the middle of a write.
  bench.page->sequence.store(5);
  bench.page->words[3].store(99);
  const Reading stopped = bench.read();
  CHECK(stopped.is_page());
  CHECK(!stopped.sample);
  CHECK(stopped.problem.find("stopped while it wrote") != std::string::npos);
  // The writer goes on.
  bench.page->write(Bench::filled(3));
  const Reading after = bench.read();
  REQUIRE(after.sample);
  CHECK(!is_torn(*after.sample));
}

TEST_CASE("live page: no torn reads beside a writer, and many without the sequence lock") {
  Bench bench;
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    for (unsigned char value = 0; !stop.load(); ++value) {
      bench.page->write(Bench::filled(value));
      for (int i = 0; i < 500 && !stop.load(); ++i)
        std::atomic_signal_fence(std::memory_order_seq_cst);
    }
  });
  const auto read_words = [&](void* to, size_t bytes, size_t offset) {
    // Word by word, so that neither compiler nor sanitizer sees a race that the lock allows.
    auto* from = reinterpret_cast<std::atomic<uint64_t>*>(bench.memory + offset);
    for (size_t i = 0; i < bytes / sizeof(uint64_t); ++i) {
      const uint64_t word = from[i].load(std::memory_order_relaxed);
      std::memcpy(static_cast<char*>(to) + i * sizeof word, &word, sizeof word);
    }
    return true;
  };
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  int torn_without = 0, torn = 0, whole = 0;
  while ((torn_without < 20 || whole < 200) && std::chrono::steady_clock::now() < end) {
    Sample sample;
    read_words(&sample, sizeof sample, offsetof(Page, words));
    torn_without += is_torn(sample);
    const Reading reading = read_page(read_words);
    if (!reading.sample) continue;
    ++whole;
    torn += is_torn(*reading.sample);
  }
  stop.store(true);
  writer.join();
  CHECK(torn_without > 0);
  CHECK(whole > 0);
  CHECK(torn == 0);
}

TEST_CASE("live page: another version's is named, with what to do") {
  Bench bench;
  bench.page->head.format = kFormat + 1;
  const Reading reading = bench.read();
  CHECK(reading.is_page());
  CHECK(!reading.sample);
  CHECK(reading.problem.find("flexlom 9.8.7") != std::string::npos);
  CHECK(reading.problem.find("own flexlom top") != std::string::npos);
  CHECK(bench.reads == 1);
}

TEST_CASE("live page: short, foreign and unterminated ones do no harm") {
  Bench bench;
  SECTION("nothing in it") {
    bench.length = GENERATE(size_t{0}, size_t{8}, sizeof(Head) - 1);
    CHECK(!bench.read().is_page());
  }
  SECTION("cut after the head") {
    bench.length = GENERATE(sizeof(Head), sizeof(Head) + 8, sizeof(Page) - 1);
    const Reading reading = bench.read();
    CHECK(reading.is_page());
    CHECK(!reading.sample);
    CHECK(reading.problem.find("cut short") != std::string::npos);
  }
  SECTION("another magic") {
    bench.page->head.magic[0] = 'x';
    CHECK(!bench.read().is_page());
    CHECK(!bench.read().sample);
  }
  SECTION("texts without an end") {
    std::memset(bench.page->head.version, 'v', sizeof bench.page->head.version);
    bench.page->write(Bench::filled('a'));
    const Reading reading = bench.read();
    REQUIRE(reading.sample);
    CHECK(std::strlen(reading.head.version) == sizeof reading.head.version - 1);
    CHECK(std::strlen(reading.sample->devices[3].name) ==
          sizeof reading.sample->devices[3].name - 1);
    CHECK(std::strlen(reading.sample->largest.call) == sizeof reading.sample->largest.call - 1);
  }
}

TEST_CASE("live file: found through /proc, and gone when it is closed") {
  {
    File file;
    CHECK(find(find_processes(), getpid()) == nullptr);
    Sample sample{};
    sample.host_held_bytes = 77;
    file.publish(sample);
    REQUIRE(file.published());
    const auto processes = find_processes();
    const Process* self = find(processes, getpid());
    REQUIRE(self != nullptr);
    REQUIRE(self->reading.sample);
    CHECK(self->reading.sample->host_held_bytes == 77);
    CHECK(std::string(self->reading.head.version) == FLEXLOM_VERSION);
    CHECK(self->reading.head.start_ticks > 0);
    CHECK(self->command.find("live_unit") != std::string::npos);
  }
  CHECK(find(find_processes(), getpid()) == nullptr);
  CHECK(published_descriptors().empty());
}

TEST_CASE("live file: nobody can shrink it under the program, or write into it") {
  File file;
  file.publish(Sample{});
  REQUIRE(published_descriptors().size() == 1);
  const int fd = published_descriptors()[0];
  CHECK(fd >= 3);
  CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
  CHECK(ftruncate(fd, 0) == -1);
  CHECK(ftruncate(fd, 1 << 20) == -1);
  const int seals = fcntl(fd, F_GET_SEALS);
  CHECK((seals & F_SEAL_SHRINK) != 0);
  CHECK((seals & F_SEAL_SEAL) != 0);
#ifdef F_SEAL_FUTURE_WRITE
  if ((seals & F_SEAL_FUTURE_WRITE) != 0) CHECK(pwrite(fd, "x", 1, 0) == -1);
#endif
  struct stat about {};
  REQUIRE(fstat(fd, &about) == 0);
  CHECK((about.st_mode & 0777) == 0400);
  CHECK(about.st_size == static_cast<off_t>(kPageBytes));
  // The mapping that was there before goes on.
  Sample sample{};
  sample.device_count = 3;
  file.publish(sample);
  const auto processes = find_processes();
  REQUIRE(find(processes, getpid()) != nullptr);
  CHECK(find(processes, getpid())->reading.sample->device_count == 3);
}

TEST_CASE(
    "live file: a descriptor that the program closed is replaced, and its number left alone") {
  File file;
  file.publish(Sample{});
  REQUIRE(published_descriptors().size() == 1);
  const int fd = published_descriptors()[0];
  close(fd);
  CHECK(!file.published());
  // The number is the program's now.
  char path[] = "/tmp/flexlom_live_XXXXXX";
  const int own = mkstemp(path);
  REQUIRE(own >= 0);
  REQUIRE(dup2(own, fd) == fd);
  for (int i = 0; i < 3; ++i) file.publish(Sample{});
  CHECK(file.published());
  struct stat about {};
  REQUIRE(fstat(fd, &about) == 0);
  CHECK(about.st_size == 0);
  CHECK(S_ISREG(about.st_mode));
  CHECK(published_descriptors().size() == 1);
  CHECK(published_descriptors()[0] != fd);
  CHECK(find(find_processes(), getpid()) != nullptr);
  unlink(path);
  close(own);
  close(fd);
}

TEST_CASE("live file: a child does not pass for its parent") {
  File file;
  file.publish(Sample{});
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const pid_t child = fork();
  if (child == 0) {
    char byte = 0;
    close(ends[1]);
    [[maybe_unused]] const ssize_t n = read(ends[0], &byte, 1);
    _exit(0);
  }
  const auto processes = find_processes();
  CHECK(find(processes, getpid()) != nullptr);
  CHECK(find(processes, child) == nullptr);
  close(ends[0]);
  close(ends[1]);
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child);
}

TEST_CASE("live file: no descriptor to be had is no harm, and tried again later") {
  rlimit limit{}, none{};
  REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  none = limit;
  none.rlim_cur = 3;
  File file;
  REQUIRE(setrlimit(RLIMIT_NOFILE, &none) == 0);
  file.publish(Sample{});
  REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
  CHECK(!file.published());
  int publications = 0;
  for (; publications < 100 && !file.published(); ++publications) file.publish(Sample{});
  CHECK(file.published());
  CHECK(publications > 10);
}

TEST_CASE("live: trees that are not /proc") {
  CHECK(find_processes("/nonexistent").empty());
  CHECK(find_processes("/tmp").empty());
}
