# make lint: what can be said about the sources without running them. LINT_TIDY=0 leaves out
# clang-tidy, which takes most of the time, LINT_TIDY=all shows it all of the library. make format
# rewrites what clang-format has a say in.
LINT_TIDY ?= 1
.PHONY: format
lint: $(BUILD)/gen/entries.inc $(BUILD)/gen/exports.inc | $(DEPS_STAMP)
	$(Q)BUILD=$(BUILD) CUDA_HOME=$(CUDA_HOME) LINT_TIDY=$(LINT_TIDY) tests/lint/run

format:
	$(Q)tests/lint/run --format

TESTS += tests/lint/self_test
