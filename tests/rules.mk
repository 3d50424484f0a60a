# What runs the tests of all rooms; the rooms add to TESTS, GPU_TESTS and LINTS.
# tests/rules.mk is read before tests/*/rules.mk, so the lists are used in recipes only.
TESTS :=
GPU_TESTS :=

test: all
	$(Q)MAKE=$(MAKE) BUILD=$(BUILD) tests/run $(TESTS)

# GPU tests need the real driver; without one each says so and skips.
gpu-test: all
	$(Q)BUILD=$(BUILD) tests/run $(GPU_TESTS)

demo: all
	$(Q)BUILD=$(BUILD) tests/demo/run
