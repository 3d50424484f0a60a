// Doors with behaviour of their own: one function each, with the type its declaration in cuda.h
// has.
//
// Every one is thin: translate, call the pool, report. None throws, none waits with a lock held,
// and each has a way to do just what the driver would have done.
#pragma once

#include "interpose/doors/entries.h"

namespace flexlom::own {

#define FLEXLOM_OWN_pass(symbol, prototype)
#define FLEXLOM_OWN_gate(symbol, prototype)
#define FLEXLOM_OWN_look(symbol, prototype)
#define FLEXLOM_OWN_room(symbol, prototype)
#define FLEXLOM_OWN_own(symbol, prototype) \
  extern std::remove_pointer_t<decltype(&::prototype)> symbol;
#define FLEXLOM_ENTRY(symbol, prototype, door) FLEXLOM_OWN_##door(symbol, prototype)
#include "entries.inc"
#undef FLEXLOM_ENTRY

}  // namespace flexlom::own
