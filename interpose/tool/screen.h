// A terminal taken over for a while: the alternate screen, single keys, signals.
//
// Whatever ends the program by way of a signal that can be caught leaves the terminal as it was,
// and so does being stopped (Ctrl-Z). Escape sequences are those of ECMA-48 and xterm, which every
// terminal in use knows. One at a time, not thread safe.
#pragma once

#include <string>
#include <vector>

namespace flexlom::tool {

class Screen {
 public:
  // Whether standard output is a terminal that can do this.
  static bool possible();

  Screen();
  ~Screen();
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  struct Size {
    size_t columns, lines;
  };
  Size size() const;

  // All of the screen; the line of number `inverse` is drawn inverted. Lines longer than the
  // screen is wide are cut by the terminal.
  void draw(const std::vector<std::string>& lines, size_t inverse);

  enum class Event { key, time, resized, resumed, end };
  // Waits for at most `seconds`. For Event::key, `*key` is what was typed.
  Event wait(double seconds, char* key);

 private:
  void enter();
  void leave();
  bool keys_ = true;  // standard input is a terminal, and not at its end
};

}  // namespace flexlom::tool
