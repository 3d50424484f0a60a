# Every driver call the pool makes fails once, at every place.
$(eval $(call program,faults/faults,tests/faults/faults.cpp $(TESTING_KERNELS),-ldl))
$(eval $(call program,faults/move_faults,tests/faults/move_faults.cpp $(TESTING_KERNELS),-ldl))
ALL += $(BUILD)/faults/faults $(BUILD)/faults/move_faults
FAULTS_TEST := $(BUILD)/tests/faults
$(FAULTS_TEST): tests/faults/rules.mk $(BUILD)/faults/faults $(BUILD)/faults/move_faults $(LIB) \
  $(BUILD)/simcuda/libcuda.so.1
	@mkdir -p $(@D)
	@printf '#!/bin/sh\nBUILD=%s exec tests/faults/run\n' $(BUILD) > $@
	@chmod +x $@
ALL += $(FAULTS_TEST)
TESTS += $(FAULTS_TEST)
