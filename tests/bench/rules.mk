# Benchmarks: `make bench` on whatever driver there is (the simulated one without a GPU), `make
# gpu-bench` on a GPU only, with whole programs as well.
$(eval $(call program,bench/pool_bench,tests/bench/pool_bench.cpp $(TESTING_KERNELS),\
  -static-libstdc++ -static-libgcc -ldl))
BENCHES := $(BUILD)/bench/pool_bench
ALL += $(BENCHES)

bench gpu-bench: all
	$(Q)tests/bench/run --build $(BUILD) $(if $(filter gpu-bench,$@),--gpu) $(BENCH_ARGS)
