#include "tests/simcuda/thread_state.hpp"

#include <pthread.h>

namespace flexlom::sim {
namespace {

thread_local ThreadState* current = nullptr;

void end(void* state) {
  delete static_cast<ThreadState*>(state);
  current = nullptr;
}

// A key, not a thread_local object: exit() destroys the main thread's objects before it runs the
// program's exit handlers.
pthread_key_t key() {
  static const pthread_key_t made = [] {
    pthread_key_t k;
    pthread_key_create(&k, end);
    return k;
  }();
  return made;
}

}  // namespace

ThreadState& this_thread() {
  if (!current) {
    current = new ThreadState;
    pthread_setspecific(key(), current);
  }
  return *current;
}

}  // namespace flexlom::sim
