# Device code. nvcc makes one fat binary per source; an assembler file embeds it (-I$(BUILD)/gen).
# TESTING_KERNELS, FINGERPRINT_KERNEL and READING_KERNEL are what a program adds to its sources.
TESTING_KERNELS := kernels/testing_embed.S
FINGERPRINT_KERNEL := kernels/fingerprint_embed.S
READING_KERNEL := kernels/reading_embed.S

NVCC_ARCHS := -gencode arch=compute_75,code=compute_75 \
  -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90,code=sm_90

# The host compiler is named so that CXX=clang++ does not change what nvcc accepts.
$(BUILD)/gen/kernels/%.fatbin: kernels/%.cu $(wildcard kernels/*.h) | $(DEPS_STAMP)
	$(say) NVCC $<
	@mkdir -p $(@D)
	$(Q)$(NVCC) -fatbin -std=c++17 -I. $(NVCC_ARCHS) -o $@ $<

$(foreach name,testing fingerprint reading,$(eval \
  $(call objects,kernels/$(name)_embed.S): $(BUILD)/gen/kernels/$(name).fatbin))
