# The shared object: doors, hooks, trace writer and pool in one file that needs only the C library.
CXXFLAGS_interpose := -D__CUDA_API_VERSION_INTERNAL

GEN := $(BUILD)/gen
$(GEN)/entries.inc: interpose/entry_points.tsv interpose/doors/generate.awk
	@mkdir -p $(@D)
	$(Q)awk -f interpose/doors/generate.awk $< > $@
$(GEN)/exports.inc: interpose/entry_points.tsv interpose/doors/generate.awk
	@mkdir -p $(@D)
	$(Q)awk -v list=exports -f interpose/doors/generate.awk $< | sed 's/.*/FLEXLOM_EXPORT &/' > $@
$(GEN)/exports.map: interpose/entry_points.tsv interpose/doors/generate.awk
	@mkdir -p $(@D)
	$(Q){ echo 'GLIBC_2.2.5 { global: dlsym; };'; echo 'GLIBC_2.34 { global: dlsym; } GLIBC_2.2.5;'; \
	  echo 'FLEXLOM_1 { global:'; \
	  awk -v list=exports -f interpose/doors/generate.awk $< | sed 's/.*/  &;/'; \
	  echo '  flexlom_*; local: *; };'; } > $@

LIB_SOURCES := $(wildcard interpose/*.cpp interpose/doors/*.cpp interpose/hooks/*.cpp interpose/ipc/*.cpp \
  interpose/heat/*.cpp interpose/guard/*.cpp interpose/stacks/*.cpp) \
  interpose/live/file.cpp interpose/live/publisher.cpp \
  interpose/trace/writer.cpp interpose/trace/log_file.cpp interpose/trace/path_template.cpp \
  interpose/trace/json_text.cpp interpose/trace/submissions.cpp \
  interpose/doors/dlsym_x86_64.S interpose/doors/exports_x86_64.S kernels/fingerprint_embed.S $(POOL_SOURCES)
LIB_OBJECTS := $(call objects,$(LIB_SOURCES))
$(LIB_OBJECTS): | $(GEN)/entries.inc $(GEN)/exports.inc
# A walk along frame pointers begins at the doors that record their callers.
$(call objects,$(wildcard interpose/stacks/*.cpp) interpose/runtime.cpp \
  $(addprefix interpose/hooks/,alloc.cpp async.cpp context.cpp vmm.cpp)): CXXFLAGS_interpose += -fno-omit-frame-pointer
LIB := $(BUILD)/libflexlom.so
DEPS += $(LIB_OBJECTS:.o=.d)
ALL += $(LIB)

# -z now would look up weak references at load; lazy binding keeps a process without CUDA free of it.
$(LIB): $(LIB_OBJECTS) $(GEN)/exports.map
	$(say) LINK $@
	$(Q)$(CXX) $(CXXFLAGS) -shared -o $@ $(LIB_OBJECTS) $(LDFLAGS) -static-libstdc++ -static-libgcc \
	  -Wl,--version-script=$(GEN)/exports.map -Wl,-soname,libflexlom.so -Wl,-z,defs -Wl,-z,relro \
	  -Wl,--exclude-libs,ALL -Wl,--gc-sections -ldl
