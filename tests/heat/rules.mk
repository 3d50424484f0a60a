# Which addresses a submission names: the room interpose/heat with the hooks that feed it, without
# the rest of the library, on the simulated driver.
HEAT_TEST := $(BUILD)/tests/heat_unit
HEAT_TESTED := $(wildcard interpose/heat/*.cpp) interpose/hooks/graph.cpp interpose/hooks/module.cpp \
  interpose/doors/originals.cpp interpose/doors/gate.cpp pool/residency/gate.cpp
HEAT_OBJ := $(call objects,$(wildcard tests/heat/*.cpp) $(HEAT_TESTED) $(TESTING_KERNELS))
$(HEAT_OBJ): | $(GEN)/entries.inc
$(call objects,$(wildcard tests/heat/*.cpp)): override CXXFLAGS += -D__CUDA_API_VERSION_INTERNAL
$(HEAT_TEST): $(HEAT_OBJ) $(BUILD)/simcuda/libcuda.so.1
	$(say) LINK $@
	@mkdir -p $(@D)
	$(Q)$(CXX) $(CXXFLAGS) -o $@ $(HEAT_OBJ) $(LDFLAGS) -L$(BUILD)/simcuda -lcuda -ldl \
	  $(if $(filter -fsanitize=%,$(CXXFLAGS)),,-static-libstdc++ -static-libgcc) \
	  -Wl,-rpath,'$$ORIGIN/../simcuda'

DEPS += $(HEAT_OBJ:.o=.d)
ALL += $(HEAT_TEST)
TESTS += $(HEAT_TEST)
# A sanitizer's runtime is not on every machine with a GPU.
ifeq ($(filter -fsanitize=%,$(CXXFLAGS)),)
GPU_TESTS += tests/heat/on_gpu
endif
