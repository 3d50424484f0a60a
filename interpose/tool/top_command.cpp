// flexlom top: who runs under flexlom on this machine, again and again.
#include <errno.h>
#include <fmt/format.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string_view>
#include <system_error>

#include "interpose/tool/arguments.h"
#include "interpose/tool/commands.h"
#include "interpose/tool/output.h"
#include "interpose/tool/screen.h"
#include "interpose/tool/top.h"

namespace flexlom::tool {
namespace {

constexpr double kShortest_s = 0.1, kLongest_s = 3600;

constexpr std::string_view help_text = R"(usage: flexlom top [OPTIONS]

  --once           one look, then end
  --json           one JSON object for each look, on a line of its own
  --every SECONDS  time between looks, 2 by default
  --sort WORD      device (default), host, moved, in-place, largest, age or pid

Shows the processes of this user that have allocated under flexlom: memory held on the device of its
budget, memory held on the host, bytes per second moved up to the device and down to the host and
used in place on the host, the largest allocation and by which call it was made, and for how long
flexlom has been active. A process with several devices has a line for each under its own. Amounts
are powers of 1024.

On a terminal: q ends, r reverses the order, space looks now, and d h m i l a p choose the order.
Programs run with FLEXLOM_LIVE=0 are not shown, nor are other users'.
)";

struct Settings {
  bool once = false, json = false, help = false;
  top::Layout layout;
};

bool parse_order(std::string_view word, top::Order* order) {
  for (const top::OrderName& name : top::order_names) {
    if (word != name.word) continue;
    *order = name.order;
    return true;
  }
  return false;
}

bool parse(Words words, Settings* out) {
  Arguments arguments("top", words);
  while (const auto option = arguments.option()) {
    if (*option == "--once") {
      out->once = true;
    } else if (*option == "--json") {
      out->json = true;
    } else if (*option == "--help" || *option == "-h") {
      out->help = true;
    } else if (*option == "--every") {
      const auto ns = arguments.seconds_ns();
      if (!ns) break;
      out->layout.every_s = static_cast<double>(*ns) / 1e9;
      if (out->layout.every_s < kShortest_s || out->layout.every_s > kLongest_s)
        arguments.complain_about(
            fmt::format("--every needs from {} to {} seconds", kShortest_s, kLongest_s));
    } else if (*option == "--sort") {
      const auto word = arguments.value();
      if (word && !parse_order(*word, &out->layout.order))
        arguments.complain_about(
            fmt::format("--sort knows device, host, moved, in-place, largest, age and pid, not "
                        "'{}'",
                        printable(*word)));
    } else {
      arguments.unknown();
    }
  }
  if (!arguments.failed() && !arguments.files().empty())
    arguments.complain_about(fmt::format("unknown argument '{}'; see flexlom help top",
                                         printable(arguments.files()[0])));
  return !arguments.failed();
}

uint64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(now.tv_nsec);
}

top::Look look(const top::Layout& layout) {
  top::Look found;
  found.processes = live::find_processes();
  found.now_ns = now_ns();
  found.clock_s = time(nullptr);
  found.user = geteuid();
  top::sort(&found.processes, layout.order, layout.reverse);
  return found;
}

// False when nobody reads any more. Throws when it cannot be written for another reason.
bool print(const top::Look& found, const Settings& settings, bool first) {
  std::string text;
  if (settings.json) {
    text = top::json(found) + "\n";
  } else {
    if (!first) text += '\n';
    for (const std::string& line : top::lines(found, settings.layout)) text += line + "\n";
  }
  if (fwrite(text.data(), 1, text.size(), stdout) == text.size() && fflush(stdout) == 0)
    return true;
  const int error = errno;
  if (error != EPIPE) throw std::system_error(error, std::generic_category());
  clearerr(stdout);  // is no error
  return false;
}

int on_paper(const Settings& settings) {
  const auto every_ns = static_cast<int64_t>(settings.layout.every_s * 1e9);
  signal(SIGPIPE, SIG_IGN);
  for (bool first = true;; first = false) {
    if (!print(look(settings.layout), settings, first)) return first ? 1 : 0;
    if (settings.once) return 0;
    const timespec pause{every_ns / 1'000'000'000, every_ns % 1'000'000'000};
    nanosleep(&pause, nullptr);
  }
}

// Whether to go on.
bool obey(char key, top::Layout* layout) {
  if (key == 'q' || key == 'Q') return false;
  if (key == 'r') layout->reverse = !layout->reverse;
  for (const top::OrderName& name : top::order_names) {
    if (key == name.key) layout->order = name.order;
  }
  return true;
}

int on_screen(Settings settings) {
  Screen screen;
  top::Layout& layout = settings.layout;
  layout.keys = true;
  top::Look found = look(layout);
  for (;;) {
    const Screen::Size size = screen.size();
    layout.columns = size.columns;
    layout.lines = size.lines;
    top::sort(&found.processes, layout.order, layout.reverse);
    screen.draw(top::lines(found, layout), top::headings_line);
    // Keys do not put off the next look.
    const double waited_s = static_cast<double>(now_ns() - found.now_ns) / 1e9;
    char key = 0;
    switch (screen.wait(std::max(0.0, layout.every_s - waited_s), &key)) {
      case Screen::Event::key:
        if (!obey(key, &layout)) return 0;
        if (key == ' ') found = look(layout);
        break;
      case Screen::Event::time:
      case Screen::Event::resumed:
        found = look(layout);
        break;
      case Screen::Event::resized:
        break;
      case Screen::Event::end:
        return 0;
    }
  }
}

}  // namespace

int top_command(Words words) {
  Settings settings;
  if (!parse(words, &settings)) return exit_usage;
  if (settings.help) {
    fmt::print("{}", help_text);
    return 0;
  }
  if (!settings.once && !settings.json && Screen::possible()) return on_screen(settings);
  return on_paper(settings);
}

}  // namespace flexlom::tool
