# The parts of guard mode that need no pool: who allocated what, and the last launches.
GUARD_TEST := $(BUILD)/tests/guard_unit
GUARD_OBJ := $(call objects,$(sort $(wildcard tests/guard/*.cpp)) interpose/guard/ledger.cpp \
  interpose/guard/launches.cpp interpose/doors/originals.cpp)
$(GUARD_OBJ): | $(GEN)/entries.inc
$(call objects,$(wildcard tests/guard/*.cpp)): override CXXFLAGS += -D__CUDA_API_VERSION_INTERNAL
$(GUARD_TEST): $(GUARD_OBJ)
	$(say) LINK $@
	@mkdir -p $(@D)
	$(Q)$(CXX) $(CXXFLAGS) -o $@ $(GUARD_OBJ) $(LDFLAGS) -ldl
DEPS += $(GUARD_OBJ:.o=.d)
ALL += $(GUARD_TEST)
TESTS += $(GUARD_TEST)
