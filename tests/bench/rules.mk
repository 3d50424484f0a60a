# Benchmarks: `make bench` on whatever driver there is (the simulated one without a GPU), `make
# gpu-bench` on a GPU only, with whole programs as well.
$(eval $(call program,bench/pool_bench,tests/bench/pool_bench.cpp $(TESTING_KERNELS),\
  -static-libstdc++ -static-libgcc -ldl))
# The policy alone, on traces: no driver at all.
POLICY_SIM := tests/bench/policy_replay.cpp tests/bench/policy_trace.cpp \
  pool/residency/policy.cpp pool/residency/history.cpp
$(eval $(call program,bench/policy_sim,tests/bench/policy_sim.cpp $(POLICY_SIM)))
$(eval $(call program,tests/policy_replay,tests/bench/policy_replay_test.cpp tests/unit/main.cpp \
  $(POLICY_SIM)))
ALL += $(BUILD)/tests/policy_replay
TESTS += $(BUILD)/tests/policy_replay
BENCHES := $(BUILD)/bench/pool_bench $(BUILD)/bench/policy_sim
ALL += $(BENCHES)
# Compiled at once, without sanitizers: it comes first in programs that have none.
DOOR_SWITCH := $(BUILD)/bench/door_switch.so
$(DOOR_SWITCH): tests/bench/door_switch.cpp tests/bench/elf_symbol.h | $(DEPS_STAMP)
	$(say) LINK $@
	@mkdir -p $(@D)
	$(Q)$(CXX) $(filter-out -fsanitize=%,$(CXXFLAGS)) -shared -o $@ $< -ldl
ALL += $(DOOR_SWITCH)

bench gpu-bench: all
	$(Q)tests/bench/run --build $(BUILD) $(if $(filter gpu-bench,$@),--gpu) $(BENCH_ARGS)

# How whole programs are compared, which needs neither a driver nor PyTorch.
TESTS += tests/bench/whole_program_test.py
# The residency runner against programs made up for it, on the simulated driver.
ifeq ($(filter -fsanitize=%,$(CXXFLAGS)),)
TESTS += tests/bench/residency_test tests/bench/advise_test tests/bench/door_switch_test
endif
