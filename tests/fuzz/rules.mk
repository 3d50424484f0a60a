# `make fuzz`: each fuzzer for FUZZ_SECONDS, starting from its small corpus. Built by clang in a folder of its
# own, because libFuzzer wants the library instrumented too.
FUZZ_SECONDS ?= 60
FUZZ_BUILD := build/fuzz
FUZZ_FLAGS := -O1 -g -DFLEXLOM_CHECK -fsanitize=fuzzer-no-link,address -fno-omit-frame-pointer

# Without -z defs: the sanitizer's runtime lies in the program.
$(FUZZ_BUILD)/libflexlom_fuzz.so: $(LIB_OBJECTS) $(GEN)/exports.map
	$(say) LINK $@
	$(Q)$(CXX) $(CXXFLAGS) -shared -o $@ $(LIB_OBJECTS) -pthread -Wl,--version-script=$(GEN)/exports.map \
	  -Wl,-soname,libflexlom_fuzz.so -ldl

FUZZ_ENTRY_POINTS := $(FUZZ_BUILD)/entry_points_fuzz
FUZZ_ENTRY_OBJECTS := $(call objects,tests/fuzz/entry_points_fuzz.cpp $(TESTING_KERNELS))
$(FUZZ_ENTRY_POINTS): $(FUZZ_ENTRY_OBJECTS) $(FUZZ_BUILD)/libflexlom_fuzz.so
	$(say) LINK $@
	$(Q)$(CXX) $(CXXFLAGS) -fsanitize=fuzzer,address -o $@ $(FUZZ_ENTRY_OBJECTS) $(FUZZ_BUILD)/libflexlom_fuzz.so \
	  -Wl,-rpath,'$$ORIGIN' -pthread -ldl
DEPS += $(FUZZ_ENTRY_OBJECTS:.o=.d)

FUZZ_OPTIONS := $(FUZZ_BUILD)/options_fuzz
FUZZ_OPTIONS_OBJECTS := $(call objects,tests/fuzz/options_fuzz.cpp interpose/options.cpp interpose/trace/path_template.cpp)
FUZZ_READER := $(FUZZ_BUILD)/trace_reader_fuzz
FUZZ_READER_OBJECTS := $(call objects,tests/fuzz/trace_reader_fuzz.cpp $(TOOL_SOURCES))
$(FUZZ_OPTIONS): $(FUZZ_OPTIONS_OBJECTS)
$(FUZZ_READER): $(FUZZ_READER_OBJECTS)
$(FUZZ_OPTIONS) $(FUZZ_READER):
	$(say) LINK $@
	$(Q)$(CXX) $(CXXFLAGS) -fsanitize=fuzzer,address -o $@ $(filter %.o,$^) -pthread
DEPS += $(FUZZ_OPTIONS_OBJECTS:.o=.d) $(FUZZ_READER_OBJECTS:.o=.d)

.PHONY: fuzz
fuzz: $(BUILD)/simcuda/libcuda.so.1
	$(Q)if tests/fuzz/supported > /dev/null; then \
	  $(MAKE) --no-print-directory BUILD=$(FUZZ_BUILD) CXX=clang++ CXXFLAGS='$(FUZZ_FLAGS)' \
	  $(FUZZ_ENTRY_POINTS) $(FUZZ_OPTIONS) $(FUZZ_READER); \
	fi
	$(Q)FUZZ_SECONDS=$(FUZZ_SECONDS) FUZZ_BUILD=$(FUZZ_BUILD) BUILD=$(BUILD) tests/run tests/fuzz/run
