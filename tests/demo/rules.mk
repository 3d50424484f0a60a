# The program of `make demo`; tests/demo/run shows it.
$(eval $(call program,demo/layers,tests/demo/layers.cpp $(TESTING_KERNELS),\
  -static-libstdc++ -static-libgcc -ldl))
DEMO := $(BUILD)/demo/layers $(BUILD)/gpu/hold_memory
ALL += $(DEMO)
ifeq ($(filter -fsanitize=%,$(CXXFLAGS)),)
TESTS += tests/demo/simulated_test
endif
