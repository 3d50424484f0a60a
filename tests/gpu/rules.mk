# Programs that run on a real GPU, bare and under flexlom. They must also run on a machine with
# another C++ library than the one that built them, so they bring their own.
GPU_LIBS := -static-libstdc++ -static-libgcc -ldl

$(eval $(call program,gpu/hold_memory,tests/gpu/hold_memory.cpp,$(GPU_LIBS)))
$(eval $(call program,gpu/oversubscribe,tests/gpu/oversubscribe.cpp $(TESTING_KERNELS),$(GPU_LIBS)))
$(eval $(call program,gpu/ten_times,tests/gpu/ten_times.cpp $(TESTING_KERNELS),$(GPU_LIBS)))
$(eval $(call program,gpu/link,tests/gpu/link.cpp $(TESTING_KERNELS),$(GPU_LIBS)))
# Its reports name the functions that allocate and free.
$(call objects,tests/gpu/guard_bugs.cpp): CXXFLAGS_tests += -g -O1 -fno-omit-frame-pointer -fno-optimize-sibling-calls
$(eval $(call program,gpu/guard_bugs,tests/gpu/guard_bugs.cpp $(TESTING_KERNELS),$(GPU_LIBS)))
$(eval $(call program,gpu/graph_operands,tests/gpu/graph_operands.cpp $(TESTING_KERNELS),$(GPU_LIBS)))
$(eval $(call program,gpu/fingerprint_check,tests/gpu/fingerprint_check.cpp $(FINGERPRINT_KERNEL) \
  $(READING_KERNEL) $(TESTING_KERNELS),$(GPU_LIBS)))
$(eval $(call program,gpu/moving,tests/gpu/moving.cpp $(sort $(wildcard tests/gpu/moving/*.cpp)) \
  $(TESTING_KERNELS),$(GPU_LIBS)))
GPU_PROGRAMS := $(BUILD)/gpu/hold_memory $(BUILD)/gpu/oversubscribe $(BUILD)/gpu/link $(BUILD)/gpu/ten_times
GPU_PROGRAMS += $(BUILD)/gpu/guard_bugs $(BUILD)/gpu/fingerprint_check $(BUILD)/gpu/moving $(BUILD)/gpu/graph_operands

# cuBLAS is a large package and only these programs want it.
CUBLAS := $(wildcard $(CUDA_HOME)/include/cublas_v2.h $(CUDA_HOME)/lib64/libcublas.so)
CUBLAS_LIBS := $(GPU_LIBS) -L$(CUDA_HOME)/lib64 -lcublas -lcudart_static -lrt
ifeq ($(words $(CUBLAS)),2)
$(eval $(call program,gpu/cublas_static,tests/gpu/cublas_static.cpp,$(CUBLAS_LIBS)))
$(eval $(call program,gpu/cublas_batched,tests/gpu/cublas_batched.cpp,$(CUBLAS_LIBS)))
GPU_PROGRAMS += $(BUILD)/gpu/cublas_static $(BUILD)/gpu/cublas_batched
endif

.PHONY: gpu-programs
gpu-programs: $(GPU_PROGRAMS)
ALL += $(GPU_PROGRAMS)

# Whole programs, for gpu-test of tests/rules.mk.
GPU_TESTS += tests/gpu/run tests/gpu/moves tests/gpu/moves_tracked tests/gpu/ten_times tests/gpu/guard \
  tests/gpu/python_stacks $(BUILD)/gpu/fingerprint_check
# A sanitizer's runtime would have to come before the preloaded library.
ifeq ($(filter -fsanitize=%,$(CXXFLAGS)),)
TESTS += tests/gpu/simulated_test tests/gpu/moves_simulated tests/gpu/moves_tracked_simulated \
  tests/gpu/killed_simulated tests/gpu/guard_simulated tests/gpu/ten_times_simulated
endif
TESTS += tests/gpu/fingerprint_simulated
