// A library of other people's: names like the driver's, and two of the driver's very names.
#define LOOKALIKE(name) \
  extern "C" __attribute__((visibility("default"))) const char* name() { return #name; }

LOOKALIKE(curl_easy_init)
LOOKALIKE(cupsGetDefault)
LOOKALIKE(cu_thing)
LOOKALIKE(cuddle)
LOOKALIKE(cu)
LOOKALIKE(cuTopia)
LOOKALIKE(cuMemAllocator)
LOOKALIKE(cublasCreate_v2)
LOOKALIKE(cufftExecC2C)
LOOKALIKE(cuMemHostAlloc)
LOOKALIKE(cuMemAlloc_v2)
