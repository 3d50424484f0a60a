#pragma once

#include <cstdint>

namespace testing {
extern uint64_t generation;  // what heat::handle_generation() says
}
