// The driver, the GPU and a page, as far as the gate's protocol sees them.
//
// What is here is touched within steps of the explorer, so it needs no atomics: a call of the
// driver is one step.
#pragma once

#include "tests/model/explorer.h"

namespace flexlom::model {

class Device {
 public:
  // The driver takes a submission that touches the page; it runs from now on, at any time.
  void take(uint32_t work) {
    step();
    say("driver takes work");
    if (!mapped_) violation("work was submitted while its page was not mapped");
    // What a capture records runs when its graph is launched.
    if (!capturing_) running_.poke(running_.peek() | work);
  }
  // A call that returns when `other` has been taken, as a copy that waits for another stream does.
  void block_until(const Word& other) {
    await(other, 1);
    say("driver's call returns");
  }
  void synchronize() {
    await(running_, 0);
    say("driver finds all work over");
  }
  void begin_capture() {
    step();
    say("driver begins the capture");
    capturing_ = true;
  }
  void end_capture() {
    step();
    say("driver ends the capture");
    capturing_ = false;
  }

  // The GPU: ends pieces of work in any order, at any time.
  void run() {
    for (;;) {
      await_not(running_, 0);
      const auto pieces = static_cast<unsigned>(__builtin_popcount(running_.peek()));
      uint32_t work = running_.peek();
      for (unsigned skip = choose(pieces); skip > 0; --skip) work &= work - 1;
      if (!mapped_) violation("a kernel touched the page while it was not mapped");
      running_.poke(running_.peek() & ~(work & (0 - work)));
      say("GPU ends a piece of work");
    }
  }

  // An event that is over when what runs now is over: what it covers.
  uint32_t record() {
    step();
    say("records an event");
    if (capturing_) violation("an event was recorded while a capture was open");
    return running_.peek();
  }
  bool is_over(uint32_t covered) {
    step();
    const bool over = (running_.peek() & covered) == 0;
    say(over ? "the event is over" : "the event is not over");
    return over;
  }

  void swap_page() {
    step();
    say("unmaps the page");
    must_be_untouched();
    mapped_ = false;
    step();
    say("maps the page");
    must_be_untouched();
    mapped_ = true;
  }

  // Told by a submitter in the step that let it pass the gate, and in its last one before leaving.
  void entered() { ++inside_; }
  void leaving() { --inside_; }

 private:
  void must_be_untouched() const {
    if (inside_ != 0) violation("the page is swapped while a submitter is inside the gate");
    if (running_.peek() != 0) violation("the page is swapped while work runs");
    if (capturing_) violation("the page is swapped while a capture is open");
  }

  Word running_{0};  // a bit per piece of work
  uint32_t inside_ = 0;
  uint32_t mapped_ = 1;
  uint32_t capturing_ = 0;
};

}  // namespace flexlom::model
