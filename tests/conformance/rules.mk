# The conformance suite: one program for every driver, and the script that compares its answers.
CONFORMANCE_SOURCES := $(sort $(wildcard tests/conformance/*.cpp)) $(TESTING_KERNELS)

# libstdc++ is linked in, so that the program also runs on distributions with another one.
CONFORMANCE_LIBS := -static-libstdc++ -static-libgcc -ldl
$(eval $(call program,tests/conformance,$(CONFORMANCE_SOURCES),$(CONFORMANCE_LIBS)))

ALL += $(BUILD)/tests/conformance
# A sanitizer's runtime would have to come before the preloaded library.
ifeq ($(filter -fsanitize=%,$(CXXFLAGS)),)
TESTS += tests/conformance/compare tests/conformance/compare_two_devices \
  tests/conformance/compare_without_peers tests/conformance/simulated_against_gpu
GPU_TESTS += tests/conformance/compare_on_gpu
endif
