# Call stacks: the walk and its tables alone, and programs whose callers must be named.
comma := ,
STACKS_TEST_SOURCES := tests/stacks/unwind_test.cpp tests/tools/main.cpp
$(call objects,tests/stacks/unwind_test.cpp): CXXFLAGS_tests += -fno-omit-frame-pointer \
  -fno-optimize-sibling-calls
$(eval $(call program,tests/stacks_unit,$(STACKS_TEST_SOURCES) $(wildcard interpose/stacks/*.cpp),-ldl))

$(call objects,tests/stacks/nested.cpp tests/stacks/python_like.cpp): CXXFLAGS_tests += -g -O1 -fno-omit-frame-pointer
$(eval $(call program,tests/stacks/nested,tests/stacks/nested.cpp,-ldl))
$(eval $(call program,tests/stacks/python_like,tests/stacks/python_like.cpp,-ldl))
ALL += $(BUILD)/tests/stacks_unit $(BUILD)/tests/stacks/nested $(BUILD)/tests/stacks/python_like
TESTS += $(BUILD)/tests/stacks_unit

# A library built with a sanitizer cannot be preloaded into programs that know nothing of it.
ifeq ($(filter asan tsan,$(MODE)),)
TESTS += tests/stacks/run
endif

$(BUILD)/tests/stacks/libholder.so: tests/stacks/holder_lib.cpp | $(DEPS_STAMP)
	$(say) LINK $@
	@mkdir -p $(@D)
	$(Q)$(CXX) $(filter-out -fsanitize=%,$(CXXFLAGS)) -shared -o $@ $< -Wl,-soname,libholder.so
$(eval $(call program,tests/stacks/late_frees,tests/stacks/late_frees.cpp,-L$(BUILD)/tests/stacks \
  -lholder -Wl$(comma)-rpath$(comma)'$$$$ORIGIN' -ldl))
$(BUILD)/tests/stacks/late_frees: $(BUILD)/tests/stacks/libholder.so
ALL += $(BUILD)/tests/stacks/late_frees
ifeq ($(filter asan tsan,$(MODE)),)
TESTS += tests/stacks/leaks
endif
