# Programs that look at one behaviour each, bare and with the library in front, on the simulated
# driver.
PRELOAD_DIR := $(BUILD)/tests/preload
PRELOAD_LIBS := liblookalike.so libwrapper_a.so libwrapper_b.so libscope.so libplugin.so \
  libearly.so libconstructor.so libdlsym.so libc10_cuda.so
# Sources with a main; the rest of the folder becomes the libraries above.
PRELOAD_PROGRAMS := $(patsubst tests/preload/%.cpp,%,$(filter-out %_lib.cpp %/lookalike.cpp,\
  $(wildcard tests/preload/*.cpp)))

# Programs bind to the driver by file name alone, so whatever LD_LIBRARY_PATH holds is used. What
# was linked against libcuda is listed; the others open it.
# One lends a function to a library that it opens.
PRELOAD_LINK_direct_linkage := -L$(BUILD)/simcuda -lcuda
PRELOAD_LINK_several_contexts := -L$(BUILD)/simcuda -lcuda
PRELOAD_LINK_green_contexts := -L$(BUILD)/simcuda -lcuda
PRELOAD_LINK_exit_in_handler := -L$(BUILD)/simcuda -lcuda
PRELOAD_LINK_loader_lock := -rdynamic
define preload_program
$(call program,tests/preload/$(1),tests/preload/$(1).cpp,-ldl $(PRELOAD_LINK_$(1)))
$(call objects,tests/preload/$(1).cpp): | $(BUILD)/gen/entries.inc
$(PRELOAD_DIR)/$(1): | $(BUILD)/simcuda/libcuda.so.1
endef
$(foreach p,$(PRELOAD_PROGRAMS),$(eval $(call preload_program,$(p))))

# $(call preload_library,NAME,SOURCE,FLAGS): compiled at once, because one source makes several
define preload_library
$(PRELOAD_DIR)/$(1): tests/preload/$(2) | $(BUILD)/simcuda/libcuda.so.1 $(DEPS_STAMP)
	$$(say) LINK $$@
	@mkdir -p $$(@D)
	$$(Q)$$(CXX) $$(filter-out -fsanitize=%,$$(CXXFLAGS)) -shared -o $$@ $$< -Wl,-soname,$(1) $(3) -ldl
endef
$(eval $(call preload_library,liblookalike.so,lookalike.cpp))
$(eval $(call preload_library,libwrapper_a.so,wrapper_lib.cpp,-DWRAPPER_NAME=a))
$(eval $(call preload_library,libwrapper_b.so,wrapper_lib.cpp,-DWRAPPER_NAME=b))
$(eval $(call preload_library,libscope.so,scope_lib.cpp))
$(eval $(call preload_library,libplugin.so,plugin_lib.cpp,-L$(BUILD)/simcuda -lcuda))
$(eval $(call preload_library,libconstructor.so,constructor_lib.cpp))
$(eval $(call preload_library,libdlsym.so,dlsym_lib.cpp))
$(eval $(call preload_library,libearly.so,early_lib.cpp))
$(eval $(call preload_library,libc10_cuda.so,caching_lib.cpp,-L$(BUILD)/simcuda -lcuda))

PRELOAD_ALL := $(addprefix $(PRELOAD_DIR)/,$(PRELOAD_PROGRAMS) $(PRELOAD_LIBS))
.PHONY: preload-programs
preload-programs: $(PRELOAD_ALL)

# A library built with a sanitizer cannot be preloaded into programs that know nothing of it, and
# these tests look at the one that is shipped.
ifeq ($(filter asan tsan,$(MODE)),)
ALL += $(PRELOAD_ALL)
TESTS += tests/preload/doors tests/preload/processes tests/preload/bystanders tests/preload/object \
  tests/preload/environment tests/preload/entry_points tests/preload/sharing \
  tests/preload/contexts tests/preload/devices tests/preload/green
endif
