// Loading: any image is accepted, and holds the built-in kernels.
#include "tests/simcuda/module.hpp"

#include <sys/stat.h>

#include <mutex>
#include <unordered_set>

namespace flexlom::sim {
namespace {

struct Table {
  std::mutex lock;
  std::set<Module*> modules;
  std::unordered_set<Function*> functions;
};
Table& table() {
  static Table* const shared = new Table;
  return *shared;
}

// Modules hold CUfunctions, libraries CUkernels. Many questions are asked of either kind, each by a
// call of its own, and a handle of the other kind is refused.
template <class Handle>
constexpr bool is_library = std::is_same_v<Handle, CUlibrary>;
template <class Handle>
constexpr bool is_kernel = std::is_same_v<Handle, CUkernel>;

template <class Handle>
Handle new_module(Context* context) {
  auto* module = new Module;
  module->is_library = is_library<Handle>;
  module->context = context;
  std::lock_guard guard(table().lock);
  table().modules.insert(module);
  return reinterpret_cast<Handle>(module);
}

// The rest is called with the table's lock held.

template <class Handle>
Module& module_of(Handle handle) {
  auto* module = reinterpret_cast<Module*>(handle);
  require(table().modules.contains(module) && module->is_library == is_library<Handle>,
          CUDA_ERROR_INVALID_HANDLE);
  return *module;
}

Function& either_function_of(void* handle) {
  auto* function = static_cast<Function*>(handle);
  require(table().functions.contains(function), CUDA_ERROR_INVALID_HANDLE);
  return *function;
}
template <class Handle>
Function& function_of(Handle handle) {
  Function& function = either_function_of(handle);
  require(function.is_kernel == is_kernel<Handle>, CUDA_ERROR_INVALID_HANDLE);
  return function;
}

template <class Handle>
Handle look_up(Module& module, const char* name) {
  const Kernel* kernel = find_kernel(name);
  require(kernel != nullptr, CUDA_ERROR_NOT_FOUND);
  auto& place = (is_kernel<Handle> ? module.kernels : module.functions)[name];
  if (!place) {
    place = std::make_unique<Function>();
    place->kernel = kernel;
    place->is_kernel = is_kernel<Handle>;
    place->owner = &module;
    table().functions.insert(place.get());
  }
  return reinterpret_cast<Handle>(place.get());
}

void unload(Module& module) {
  for (auto* list : {&module.functions, &module.kernels})
    for (const auto& [name, function] : *list) table().functions.erase(function.get());
  table().modules.erase(&module);
  delete &module;
}

CUresult load(CUmodule* out, const void* image) {
  require(out && image);
  *out = new_module<CUmodule>(&current_context());
  return CUDA_SUCCESS;
}
CUresult module_load_data(Call&, CUmodule* out, const void* image) { return load(out, image); }
CUresult module_load_data_ex(Call&, CUmodule* out, const void* image, unsigned, CUjit_option*,
                             void**) {
  return load(out, image);
}
CUresult module_load(Call&, CUmodule* out, const char* path) {
  struct stat status;
  require(path);
  require(stat(path, &status) == 0, CUDA_ERROR_FILE_NOT_FOUND);
  return load(out, path);
}
CUresult module_unload(Call&, CUmodule handle) {
  Context& context = current_context();
  drain(context);
  std::lock_guard guard(table().lock);
  unload(module_of(handle));
  return CUDA_SUCCESS;
}
CUresult module_get_function(Call&, CUfunction* out, CUmodule handle, const char* name) {
  require(out && name);
  current_context();
  std::lock_guard guard(table().lock);
  *out = look_up<CUfunction>(module_of(handle), name);
  return CUDA_SUCCESS;
}
template <class Handle>
CUresult get_global(Call&, CUdeviceptr*, size_t*, Handle handle, const char* name) {
  require(name);
  std::lock_guard guard(table().lock);
  module_of(handle);
  return CUDA_ERROR_NOT_FOUND;
}
template <class Handle>
CUresult function_count(Call&, unsigned* out, Handle handle) {
  require(out);
  std::lock_guard guard(table().lock);
  module_of(handle);
  *out = static_cast<unsigned>(kernels().size());
  return CUDA_SUCCESS;
}
template <class FunctionHandle, class Handle>
CUresult enumerate(Call&, FunctionHandle* out, unsigned count, Handle handle) {
  require(out);
  std::lock_guard guard(table().lock);
  Module& module = module_of(handle);
  for (unsigned i = 0; i < count && i < kernels().size(); ++i)
    out[i] = look_up<FunctionHandle>(module, kernels()[i].name);
  return CUDA_SUCCESS;
}
constexpr auto module_enumerate = enumerate<CUfunction, CUmodule>;
constexpr auto library_enumerate = enumerate<CUkernel, CUlibrary>;
CUresult module_loading_mode(Call&, CUmoduleLoadingMode* out) {
  require(out);
  *out = CU_MODULE_LAZY_LOADING;
  return CUDA_SUCCESS;
}

CUresult library_load_data(Call&, CUlibrary* out, const void* code, CUjit_option*, void**, unsigned,
                           CUlibraryOption*, void**, unsigned) {
  require(out && code);
  *out = new_module<CUlibrary>(nullptr);
  return CUDA_SUCCESS;
}
CUresult library_load_file(Call&, CUlibrary* out, const char* path, CUjit_option*, void**, unsigned,
                           CUlibraryOption*, void**, unsigned) {
  struct stat status;
  require(out && path);
  require(stat(path, &status) == 0, CUDA_ERROR_FILE_NOT_FOUND);
  *out = new_module<CUlibrary>(nullptr);
  return CUDA_SUCCESS;
}
CUresult library_unload(Call&, CUlibrary handle) {
  std::lock_guard guard(table().lock);
  unload(module_of(handle));
  return CUDA_SUCCESS;
}
CUresult library_get_kernel(Call&, CUkernel* out, CUlibrary handle, const char* name) {
  require(out && name);
  std::lock_guard guard(table().lock);
  *out = look_up<CUkernel>(module_of(handle), name);
  return CUDA_SUCCESS;
}
CUresult kernel_get_function(Call&, CUfunction* out, CUkernel handle) {
  require(out);
  current_context();
  *out = function_of_kernel(handle);
  return CUDA_SUCCESS;
}
CUresult kernel_get_library(Call&, CUlibrary* out, CUkernel handle) {
  require(out);
  std::lock_guard guard(table().lock);
  *out = reinterpret_cast<CUlibrary>(function_of(handle).owner);
  return CUDA_SUCCESS;
}
CUresult func_get_module(Call&, CUmodule* out, CUfunction handle) {
  require(out);
  std::lock_guard guard(table().lock);
  *out = reinterpret_cast<CUmodule>(function_of(handle).owner);
  return CUDA_SUCCESS;
}

template <class Handle>
CUresult get_param_info(Call&, Handle handle, size_t index, size_t* offset, size_t* bytes) {
  require(offset);
  std::lock_guard guard(table().lock);
  const auto& params = function_of(handle).kernel->params;
  require(index < params.size());
  *offset = params[index].offset;
  if (bytes) *bytes = params[index].bytes;
  return CUDA_SUCCESS;
}
template <class Handle>
CUresult get_name(Call&, const char** out, Handle handle) {
  require(out);
  std::lock_guard guard(table().lock);
  *out = function_of(handle).kernel->name;
  return CUDA_SUCCESS;
}

int attribute_of(const Function& function, CUfunction_attribute attribute) {
  require(attribute >= 0 && attribute < CU_FUNC_ATTRIBUTE_MAX);
  const auto set = function.attributes.find(attribute);
  if (set != function.attributes.end()) return set->second;
  switch (attribute) {
    case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
      return 1024;
    case CU_FUNC_ATTRIBUTE_NUM_REGS:
      return 32;
    case CU_FUNC_ATTRIBUTE_PTX_VERSION:
    case CU_FUNC_ATTRIBUTE_BINARY_VERSION:
      return 90;
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
      return 49152;
    case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
      return -1;
    default:
      return 0;
  }
}
CUresult func_get_attribute(Call&, int* out, CUfunction_attribute attribute, CUfunction handle) {
  require(out);
  std::lock_guard guard(table().lock);
  *out = attribute_of(function_of(handle), attribute);
  return CUDA_SUCCESS;
}
template <class Handle>
CUresult set_attribute(Handle handle, CUfunction_attribute attribute, int value) {
  std::lock_guard guard(table().lock);
  Function& function = function_of(handle);
  attribute_of(function, attribute);
  function.attributes[attribute] = value;
  return CUDA_SUCCESS;
}
CUresult func_set_attribute(Call&, CUfunction handle, CUfunction_attribute attribute, int value) {
  return set_attribute(handle, attribute, value);
}
CUresult kernel_get_attribute(Call&, int* out, CUfunction_attribute attribute, CUkernel handle,
                              CUdevice dev) {
  require(out);
  device_at(dev);
  std::lock_guard guard(table().lock);
  *out = attribute_of(function_of(handle), attribute);
  return CUDA_SUCCESS;
}
CUresult kernel_set_attribute(Call&, CUfunction_attribute attribute, int value, CUkernel handle,
                              CUdevice dev) {
  device_at(dev);
  return set_attribute(handle, attribute, value);
}
CUresult func_set_cache_config(Call&, CUfunction handle, CUfunc_cache) {
  std::lock_guard guard(table().lock);
  either_function_of(handle);
  return CUDA_SUCCESS;
}
CUresult kernel_set_cache_config(Call&, CUkernel handle, CUfunc_cache, CUdevice) {
  std::lock_guard guard(table().lock);
  function_of(handle);
  return CUDA_SUCCESS;
}
CUresult func_is_loaded(Call&, CUfunctionLoadingState* out, CUfunction handle) {
  require(out);
  std::lock_guard guard(table().lock);
  either_function_of(handle);
  *out = CU_FUNCTION_LOADING_STATE_LOADED;
  return CUDA_SUCCESS;
}
CUresult func_load(Call&, CUfunction handle) {
  std::lock_guard guard(table().lock);
  either_function_of(handle);
  return CUDA_SUCCESS;
}

}  // namespace

const Kernel& launchable(CUfunction handle) {
  std::lock_guard guard(table().lock);
  return *either_function_of(handle).kernel;
}

bool is_kernel_handle(CUfunction handle) {
  std::lock_guard guard(table().lock);
  return either_function_of(handle).is_kernel;
}

void require_kind(CUfunction handle, bool kernel) {
  require(is_kernel_handle(handle) == kernel, CUDA_ERROR_INVALID_HANDLE);
}

CUfunction function_of_kernel(CUkernel handle) {
  std::lock_guard guard(table().lock);
  Function& kernel = function_of(handle);
  return look_up<CUfunction>(*kernel.owner, kernel.kernel->name);
}

void unload_modules(Context& context) {
  std::lock_guard guard(table().lock);
  const std::set<Module*> all = table().modules;
  for (Module* module : all)
    if (module->context == &context) unload(*module);
}

}  // namespace flexlom::sim

using namespace flexlom::sim;
SIM_EXPORT(cuModuleLoad, module_load);
SIM_EXPORT(cuModuleLoadData, module_load_data);
SIM_EXPORT(cuModuleLoadDataEx, module_load_data_ex);
SIM_EXPORT(cuModuleLoadFatBinary, module_load_data);
SIM_EXPORT(cuModuleUnload, module_unload);
SIM_EXPORT(cuModuleGetFunction, module_get_function);
SIM_EXPORT(cuModuleGetGlobal_v2, get_global<CUmodule>);
SIM_EXPORT(cuModuleGetFunctionCount, function_count<CUmodule>);
SIM_EXPORT(cuModuleEnumerateFunctions, module_enumerate);
SIM_EXPORT(cuModuleGetLoadingMode, module_loading_mode);
SIM_EXPORT(cuLibraryLoadData, library_load_data);
SIM_EXPORT(cuLibraryLoadFromFile, library_load_file);
SIM_EXPORT(cuLibraryUnload, library_unload);
SIM_EXPORT(cuLibraryGetKernel, library_get_kernel);
SIM_EXPORT(cuLibraryGetKernelCount, function_count<CUlibrary>);
SIM_EXPORT(cuLibraryEnumerateKernels, library_enumerate);
SIM_EXPORT(cuLibraryGetGlobal, get_global<CUlibrary>);
SIM_EXPORT(cuLibraryGetManaged, get_global<CUlibrary>);
SIM_EXPORT(cuKernelGetFunction, kernel_get_function);
SIM_EXPORT(cuKernelGetLibrary, kernel_get_library);
SIM_EXPORT(cuKernelGetParamInfo, get_param_info<CUkernel>);
SIM_EXPORT(cuKernelGetName, get_name<CUkernel>);
SIM_EXPORT(cuKernelGetAttribute, kernel_get_attribute);
SIM_EXPORT(cuKernelSetAttribute, kernel_set_attribute);
SIM_EXPORT(cuKernelSetCacheConfig, kernel_set_cache_config);
SIM_EXPORT(cuFuncGetModule, func_get_module);
SIM_EXPORT(cuFuncGetParamInfo, get_param_info<CUfunction>);
SIM_EXPORT(cuFuncGetName, get_name<CUfunction>);
SIM_EXPORT(cuFuncGetAttribute, func_get_attribute);
SIM_EXPORT(cuFuncSetAttribute, func_set_attribute);
SIM_EXPORT(cuFuncSetCacheConfig, func_set_cache_config);
SIM_EXPORT(cuFuncIsLoaded, func_is_loaded);
SIM_EXPORT(cuFuncLoad, func_load);
