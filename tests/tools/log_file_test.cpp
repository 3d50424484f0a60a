// The log's descriptor in a program that closes it and takes its number.
#include "interpose/trace/log_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>

#include "interpose/trace/writer.h"
#include "tests/tools/scratch.h"

namespace {

using namespace flexlom;
using trace::LogFile;

std::atomic<int> warnings{0};
void count_warning(const char*) noexcept { warnings++; }

LogFile open_log(std::string path) {
  std::optional<LogFile> file = LogFile::open(path);
  REQUIRE(file);
  return std::move(*file);
}

int write(LogFile& file, const std::string& text) { return file.write(text.data(), text.size()); }

// The only descriptor other than `but` that names `path`, -1 if there is none.
int descriptor_of(const std::string& path, int but = -1) {
  struct stat wanted {
  }, about{};
  if (stat(path.c_str(), &wanted) != 0) return -1;
  int found = -1;
  for (int fd = 0; fd < 2048; fd++) {
    if (fd == but || fstat(fd, &about) != 0 || about.st_dev != wanted.st_dev ||
        about.st_ino != wanted.st_ino)
      continue;
    if (found != -1) return -2;
    found = fd;
  }
  return found;
}

// What a program does that closes everything: the number is soon another file's.
void take_number(int fd, const std::string& path) {
  int file = open(path.c_str(), O_RDWR | O_CREAT, 0600);
  REQUIRE(file >= 0);
  REQUIRE(dup2(file, fd) == fd);
  close(file);
}

// Runs in a forked child, whose limits and directory are its own.
template <typename Body>
bool in_child(Body body) {
  pid_t child = fork();
  if (child == 0) _exit(body() ? 0 : 1);
  int status = -1;
  return waitpid(child, &status, 0) == child && status == 0;
}

}  // namespace

TEST_CASE("the log's descriptor has a high number, and no program started from here gets it") {
  Scratch scratch;
  LogFile file = open_log(scratch / "log");
  int fd = descriptor_of(scratch / "log");
  CHECK(fd >= 512);
  CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
  CHECK((fcntl(fd, F_GETFL) & (O_APPEND | O_NONBLOCK)) == O_APPEND);
  file.close();
  CHECK(descriptor_of(scratch / "log") == -1);
}

TEST_CASE("where few descriptors are allowed the log takes a low number, none of the first three") {
  Scratch scratch;
  for (rlim_t most : {256, 40}) {
    const std::string path = scratch / std::to_string(most);
    CHECK(in_child([&] {
      close(STDIN_FILENO);
      rlimit limit{most, most};
      if (setrlimit(RLIMIT_NOFILE, &limit) != 0) return false;
      LogFile file = open_log(path);
      int fd = descriptor_of(path);
      return fd >= (most == 256 ? 64 : 3) && write(file, "line\n") == 0;
    }));
    CHECK(read_whole(path) == "line\n");
  }
}

TEST_CASE("a closed descriptor is opened again") {
  Scratch scratch;
  LogFile file = open_log(scratch / "log");
  CHECK(write(file, "one\n") == 0);
  close(descriptor_of(scratch / "log"));
  CHECK(write(file, "two\n") == 0);
  int fd = descriptor_of(scratch / "log");
  CHECK(fd >= 512);
  CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
  CHECK((fcntl(fd, F_GETFL) & (O_APPEND | O_NONBLOCK)) == O_APPEND);
  CHECK(read_whole(scratch / "log") == "one\ntwo\n");
}

TEST_CASE("a file that took the log's number is neither written nor closed") {
  Scratch scratch;
  LogFile file = open_log(scratch / "log");
  int fd = descriptor_of(scratch / "log");
  take_number(fd, scratch / "theirs");
  CHECK(write(file, "mine\n") == 0);
  CHECK(read_whole(scratch / "theirs").empty());
  CHECK(read_whole(scratch / "log") == "mine\n");

  int again = descriptor_of(scratch / "log");
  CHECK(again != fd);
  take_number(again, scratch / "also");
  file.close();
  CHECK(descriptor_of(scratch / "theirs") == fd);
  CHECK(descriptor_of(scratch / "also") == again);
  close(fd);
  close(again);
}

TEST_CASE("a log that is lost is not made anew, and what stands in its place is left alone") {
  Scratch scratch;
  const std::string path = scratch / "log";
  LogFile file = open_log(path);
  int fd = descriptor_of(path);
  // Held open, so that no new file can get the inode.
  int held = open(path.c_str(), O_RDONLY);
  unlink(path.c_str());
  CHECK(write(file, "still open\n") == 0);
  take_number(fd, scratch / "theirs");
  SECTION("nothing there") {
    CHECK(write(file, "lost\n") == ENOENT);
    CHECK(access(path.c_str(), F_OK) != 0);
  }
  SECTION("another file") {
    scratch.write("log", "precious\n");
    CHECK(write(file, "lost\n") == ESTALE);
    CHECK(read_whole(path) == "precious\n");
  }
  SECTION("a FIFO") {
    REQUIRE(mkfifo(path.c_str(), 0600) == 0);
    CHECK(write(file, "lost\n") == ESTALE);
  }
  CHECK(read_whole(scratch / "theirs").empty());
  CHECK(descriptor_of(scratch / "theirs") == fd);
  close(fd);
  close(held);
}

TEST_CASE("a log with a relative name is found again from another directory") {
  Scratch scratch;
  CHECK(in_child([&] {
    if (chdir(scratch.write("here/file", "").substr(0, (scratch / "here").size()).c_str()) != 0)
      return false;
    LogFile file = open_log("log");
    close(descriptor_of("log"));
    return chdir("/") == 0 && write(file, "line\n") == 0;
  }));
  CHECK(read_whole(scratch / "here/log") == "line\n");
}

TEST_CASE("FIFOs are opened again as well") {
  Scratch scratch;
  const std::string fifo = scratch / "fifo";
  REQUIRE(mkfifo(fifo.c_str(), 0600) == 0);
  int reader = open(fifo.c_str(), O_RDONLY | O_NONBLOCK);
  REQUIRE(reader >= 0);
  LogFile file = open_log(fifo);
  CHECK(write(file, "one\n") == 0);
  close(descriptor_of(fifo, reader));
  CHECK(write(file, "two\n") == 0);
  char text[64] = "";
  CHECK(read(reader, text, sizeof text - 1) == 8);
  CHECK(std::string(text) == "one\ntwo\n");
  close(reader);
}

TEST_CASE("a log that cannot be found again ends with one warning") {
  Scratch scratch;
  std::string error;
  warnings = 0;
  auto writer = trace::Writer::open(scratch / "log", &error, count_warning);
  REQUIRE(writer != nullptr);
  writer->warning("first");
  writer->flush_now();
  int fd = descriptor_of(writer->path());
  take_number(fd, scratch / "theirs");
  writer->warning("second");
  writer->flush_now();
  CHECK(warnings == 0);
  CHECK(read_lines(writer->path()).size() == 2);

  int again = descriptor_of(writer->path());
  unlink(writer->path().c_str());
  take_number(again, scratch / "also");
  for (int i = 0; i < 3; i++) {
    writer->warning("lost");
    writer->flush_now();
  }
  CHECK(warnings == 1);
  SECTION("and is destroyed") { writer.reset(); }
  SECTION("and is left behind by a forked child") {
    CHECK(in_child([&] {
      writer->abandon();
      return fcntl(fd, F_GETFD) >= 0 && fcntl(again, F_GETFD) >= 0;
    }));
    writer.reset();
  }
  CHECK(read_whole(scratch / "theirs").empty());
  CHECK(read_whole(scratch / "also").empty());
  CHECK(descriptor_of(scratch / "theirs") == fd);
  CHECK(descriptor_of(scratch / "also") == again);
  close(fd);
  close(again);
}
