# The model check of the gate, in every interleaving, and the same gate under real threads.
GATE := pool/residency/gate.cpp
MODEL_SOURCES := $(sort $(wildcard tests/model/*.cpp)) tests/model/fiber_x86_64.S \
  tests/unit/main.cpp
# A function that was left takes its dead values with it; inlined, it would leave them in registers
# and on the stack, where they tell states apart that are the same.
$(call objects,$(wildcard tests/model/gate_*.cpp)): override CXXFLAGS += -fno-inline
$(eval $(call program,tests/gate_model,$(MODEL_SOURCES)))
$(eval $(call program,tests/gate_stress,tests/model/stress/gate_stress.cpp $(GATE)))
ALL += $(BUILD)/tests/gate_stress
TESTS += $(BUILD)/tests/gate_stress

# The model runs on one thread and copies stacks away and back, which the sanitizers cannot follow.
ifeq ($(filter asan tsan,$(MODE)),)
ALL += $(BUILD)/tests/gate_model
TESTS += $(BUILD)/tests/gate_model
endif
