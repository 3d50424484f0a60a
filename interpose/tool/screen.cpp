#include "interpose/tool/screen.h"

#include <errno.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <string_view>

namespace flexlom::tool {
namespace {

constexpr int kCaught[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGWINCH};

// Written by the handler, which runs only while wait() waits.
volatile sig_atomic_t ended_by = 0, stop_asked = 0, resize_seen = 0, resume_seen = 0;

void note_signal(int number) {
  switch (number) {
    case SIGWINCH:
      resize_seen = 1;
      break;
    case SIGTSTP:
      stop_asked = 1;
      break;
    case SIGCONT:
      resume_seen = 1;
      break;
    default:
      ended_by = number;
  }
}

termios before;  // of standard input, to be put back
bool have_before = false;

// A terminal that is gone or stopped is no reason to fail: the next drawing tries again.
void put(std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = write(STDOUT_FILENO, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    text.remove_prefix(static_cast<size_t>(n));
  }
}

void block(bool blocked, sigset_t* old) {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : kCaught) sigaddset(&set, number);
  sigprocmask(blocked ? SIG_BLOCK : SIG_UNBLOCK, &set, old);
}

}  // namespace

bool Screen::possible() {
  const char* term = getenv("TERM");
  return isatty(STDOUT_FILENO) == 1 && term != nullptr && *term != '\0' &&
         std::string_view(term) != "dumb";
}

Screen::Screen() : keys_(isatty(STDIN_FILENO) == 1) {
  // The signals come through only while waiting, so that none is lost between a look at the flags
  // and the wait.
  block(true, nullptr);
  struct sigaction action {};
  action.sa_handler = &note_signal;
  sigfillset(&action.sa_mask);
  for (const int number : kCaught) sigaction(number, &action, nullptr);
  enter();
}

Screen::~Screen() { leave(); }

void Screen::enter() {
  have_before = keys_ && tcgetattr(STDIN_FILENO, &before) == 0;
  if (have_before) {
    termios raw = before;
    raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
  }
  put("\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[H\x1b[2J");
}

void Screen::leave() {
  put("\x1b[?7h\x1b[?25h\x1b[?1049l");
  if (have_before) tcsetattr(STDIN_FILENO, TCSADRAIN, &before);
}

Screen::Size Screen::size() const {
  winsize window{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 0 && window.ws_row > 0)
    return {window.ws_col, window.ws_row};
  return {80, 24};
}

void Screen::draw(const std::vector<std::string>& lines, size_t inverse) {
  std::string text = "\x1b[H";
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) text += "\r\n";
    text += i == inverse ? "\x1b[7m" + lines[i] + "\x1b[K\x1b[0m" : lines[i] + "\x1b[K";
  }
  put(text + "\x1b[J");
}

Screen::Event Screen::wait(double seconds, char* key) {
  for (;;) {
    pollfd in{STDIN_FILENO, POLLIN, 0};
    const double whole = std::floor(seconds);
    const timespec limit{static_cast<time_t>(whole), static_cast<long>((seconds - whole) * 1e9)};
    sigset_t open;
    sigprocmask(SIG_SETMASK, nullptr, &open);
    for (const int number : kCaught) sigdelset(&open, number);
    const int ready = ppoll(&in, keys_ ? 1 : 0, &limit, &open);
    if (ended_by != 0) return Event::end;
    if (stop_asked != 0) {
      stop_asked = 0;
      leave();
      raise(SIGSTOP);
      enter();
      return Event::resumed;
    }
    if (resume_seen != 0 || resize_seen != 0) {
      resume_seen = 0;
      resize_seen = 0;
      return Event::resized;
    }
    if (ready == 0) return Event::time;
    if (ready < 0) {
      if (errno == EINTR) continue;
      return Event::end;
    }
    const ssize_t n = read(STDIN_FILENO, key, 1);
    if (n == 1) return Event::key;
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    return Event::end;  // the terminal is gone
  }
}

}  // namespace flexlom::tool
