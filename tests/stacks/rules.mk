# Call stacks: the walk and its tables alone, and programs whose callers must be named.
STACKS_TEST_SOURCES := tests/stacks/unwind_test.cpp tests/tools/main.cpp
$(call objects,tests/stacks/unwind_test.cpp): CXXFLAGS_tests += -fno-omit-frame-pointer \
  -fno-optimize-sibling-calls
$(eval $(call program,tests/stacks_unit,$(STACKS_TEST_SOURCES) $(wildcard interpose/stacks/*.cpp),-ldl))

$(call objects,tests/stacks/nested.cpp): CXXFLAGS_tests += -g -O1 -fno-omit-frame-pointer
$(eval $(call program,tests/stacks/nested,tests/stacks/nested.cpp,-ldl))
ALL += $(BUILD)/tests/stacks_unit $(BUILD)/tests/stacks/nested
TESTS += $(BUILD)/tests/stacks_unit

# A library built with a sanitizer cannot be preloaded into programs that know nothing of it.
ifeq ($(filter asan tsan,$(MODE)),)
TESTS += tests/stacks/run
endif
