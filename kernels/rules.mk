# Device code. nvcc makes one fat binary per source; an assembler file embeds it (-I$(BUILD)/gen).
# TESTING_KERNELS is what a test program adds to its sources.
TESTING_KERNELS := kernels/testing_embed.S

NVCC_ARCHS := -gencode arch=compute_75,code=compute_75 \
  -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90,code=sm_90

# The host compiler is named so that CXX=clang++ does not change what nvcc accepts.
$(BUILD)/gen/kernels/%.fatbin: kernels/%.cu kernels/testing_host.h | $(DEPS_STAMP)
	$(say) NVCC $<
	@mkdir -p $(@D)
	$(Q)$(NVCC) -fatbin -std=c++17 -I. $(NVCC_ARCHS) -o $@ $<

$(call objects,$(TESTING_KERNELS)): $(BUILD)/gen/kernels/testing.fatbin
