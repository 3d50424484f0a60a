// Modules, libraries and the functions in them.
#pragma once
#include <map>
#include <memory>
#include <set>
#include <string>

#include "tests/simcuda/context.hpp"
#include "tests/simcuda/kernels.hpp"

namespace flexlom::sim {

struct Module;

// A CUfunction (of a module, or of a library made concrete) or a CUkernel (of a library). Not
// interchangeable: each kind of question accepts one of them; launches and occupancy accept both.
struct Function {
  const Kernel* kernel = nullptr;
  bool is_kernel = false;  // a CUkernel
  Module* owner = nullptr;
  std::map<CUfunction_attribute, int> attributes;  // set by the program
};

// A CUmodule or a CUlibrary. Guarded by the module table's own lock, which is taken last.
struct Module {
  bool is_library = false;
  Context* context = nullptr;                                  // null for a library
  std::map<std::string, std::unique_ptr<Function>> functions;  // CUfunctions
  std::map<std::string, std::unique_ptr<Function>> kernels;    // CUkernels of a library
};

// Either kind of handle; throws INVALID_HANDLE.
const Kernel& launchable(CUfunction handle);
// Throw INVALID_HANDLE for the other kind. Of a CUkernel's function: that of its library.
void require_kind(CUfunction handle, bool kernel);
bool is_kernel_handle(CUfunction handle);
CUfunction function_of_kernel(CUkernel handle);
void unload_modules(Context& context);

}  // namespace flexlom::sim
