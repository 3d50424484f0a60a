// Calls back into the program from its constructor.
extern "C" void preload_in_constructor();

namespace {
__attribute__((constructor)) void start() { preload_in_constructor(); }
}  // namespace
