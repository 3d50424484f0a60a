# The stress program, and `make sanitize`: stress, unit tests and faults under ASan+UBSan and TSan.
STRESS_SOURCES := $(sort $(wildcard tests/stress/*.cpp)) $(TESTING_KERNELS)
$(eval $(call program,stress/stress,$(STRESS_SOURCES),-ldl))
ALL += $(BUILD)/stress/stress

# tests/run takes programs without arguments: this one remembers which build it belongs to.
STRESS_TEST := $(BUILD)/tests/stress
$(STRESS_TEST): tests/stress/rules.mk $(BUILD)/stress/stress $(LIB) $(BUILD)/simcuda/libcuda.so.1
	@mkdir -p $(@D)
	@printf '#!/bin/sh\nBUILD=%s exec tests/stress/run\n' $(BUILD) > $@
	@chmod +x $@
ALL += $(STRESS_TEST)
TESTS += $(STRESS_TEST)

SANITIZE_SECONDS ?= 75
.PHONY: sanitize-build
sanitize-build: $(BUILD)/tests/stress $(BUILD)/tests/faults $(BUILD)/tests/pool_unit \
  $(BUILD)/tests/gate_stress $(BUILD)/tests/heat_unit $(BUILD)/tests/live_unit

sanitize:
	$(Q)$(MAKE) --no-print-directory MODE=tsan sanitize-build
	$(Q)$(MAKE) --no-print-directory MODE=asan sanitize-build
	$(Q)$(MAKE) --no-print-directory MODE=debug build/debug/tests/pool_unit
	$(Q)STRESS_SECONDS=$(SANITIZE_SECONDS) tests/run build/debug/tests/pool_unit \
	  build/tsan/tests/pool_unit build/asan/tests/pool_unit build/tsan/tests/gate_stress \
	  build/asan/tests/gate_stress build/tsan/tests/heat_unit build/asan/tests/heat_unit \
	  build/tsan/tests/live_unit build/asan/tests/live_unit \
	  build/asan/tests/faults \
	  build/tsan/tests/stress build/asan/tests/stress
