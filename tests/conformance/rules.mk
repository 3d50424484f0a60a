# The conformance suite: one program for every driver, and the script that compares its answers.
CONFORMANCE_SOURCES := $(sort $(wildcard tests/conformance/*.cpp)) $(TESTING_KERNELS)

# libstdc++ is linked in, so that the program also runs on distributions with another one.
CONFORMANCE_LIBS := -static-libstdc++ -static-libgcc -ldl
$(eval $(call program,tests/conformance,$(CONFORMANCE_SOURCES),$(CONFORMANCE_LIBS)))

ALL += $(BUILD)/tests/conformance
TESTS += tests/conformance/compare
