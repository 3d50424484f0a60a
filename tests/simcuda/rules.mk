# The simulated driver: build/simcuda/libcuda.so.1, and its own tests.
SIM_DIR := $(BUILD)/simcuda
SIM_LIB := $(SIM_DIR)/libcuda.so.1
SIM_GEN := $(BUILD)/gen/simcuda
SIM_SRC := $(filter-out %_test.cpp,$(wildcard tests/simcuda/*.cpp))
SIM_OBJ := $(call objects,$(SIM_SRC)) $(SIM_GEN)/stubs.o $(SIM_GEN)/table.o
# A sanitizer brings its own libstdc++; everywhere else the library needs nothing but glibc.
SIM_STATIC := $(if $(filter -fsanitize=%,$(CXXFLAGS)),,-static-libstdc++ -static-libgcc)

$(SIM_GEN)/%.cpp: tests/simcuda/stubs.awk interpose/entry_points.tsv
	$(say) GEN $@
	@mkdir -p $(@D)
	$(Q)awk -v what=$* -f tests/simcuda/stubs.awk interpose/entry_points.tsv > $@

.SECONDARY: $(SIM_GEN)/stubs.cpp $(SIM_GEN)/table.cpp

$(SIM_GEN)/%.o: $(SIM_GEN)/%.cpp tests/simcuda/api.hpp | $(DEPS_STAMP)
	$(say) CXX $<
	$(Q)$(CXX) $(CXXFLAGS) -O1 -c $< -o $@

# nodelete: its threads and its exit handler outlive a dlclose.
$(SIM_LIB): $(SIM_OBJ) tests/simcuda/exports.map
	$(say) LINK $@
	@mkdir -p $(@D)
	$(Q)$(CXX) $(CXXFLAGS) -shared -Wl,-soname,libcuda.so.1 -Wl,-Bsymbolic -Wl,-z,now -Wl,-z,nodelete \
	  -Wl,--version-script,tests/simcuda/exports.map -o $@ $(SIM_OBJ) $(LDFLAGS) $(SIM_STATIC)
	@ln -sf libcuda.so.1 $(SIM_DIR)/libcuda.so

DEPS += $(patsubst %.o,%.d,$(call objects,$(SIM_SRC)))
ALL += $(SIM_LIB)

.PHONY: simcuda
simcuda: $(SIM_LIB)

SIM_TEST := $(BUILD)/tests/simcuda_test
SIM_TEST_OBJ := $(call objects,$(wildcard tests/simcuda/*_test.cpp))
$(SIM_TEST): $(SIM_TEST_OBJ) $(SIM_LIB)
	$(say) LINK $@
	@mkdir -p $(@D)
	$(Q)$(CXX) $(CXXFLAGS) -o $@ $(SIM_TEST_OBJ) $(LDFLAGS) -L$(SIM_DIR) -lcuda \
	  -Wl,-rpath,'$$ORIGIN/../simcuda'

DEPS += $(SIM_TEST_OBJ:.o=.d)
ALL += $(SIM_TEST)
TESTS += $(SIM_TEST)
