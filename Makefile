# flexlom: elastic GPU memory for any CUDA program.   `make demo`, `make test`; V=1 shows commands.
#
# Every room brings its own rules.mk; this file holds what they share. Output goes to build/ (or
# build/<mode> for MODE=debug|asan|tsan), nothing is written beside the sources.
MAKEFLAGS += --no-builtin-rules
.SUFFIXES:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := all

VERSION := 0.1.0
MODE    ?= release
CUDA_HOME ?= /usr/local/cuda
PREFIX  ?= /usr/local
BINDIR  ?= $(PREFIX)/bin
LIBDIR  ?= $(PREFIX)/lib
LIBEXECDIR ?= $(PREFIX)/libexec/flexlom
MANDIR  ?= $(PREFIX)/share/man
DATADIR ?= $(PREFIX)/share
DESTDIR ?=

BUILD := $(if $(filter release,$(MODE)),build,build/$(MODE))
NVCC  ?= $(CUDA_HOME)/bin/nvcc

ifeq ($(V),1)
  Q :=
  say = @:
else
  Q := @
  say = @printf '  %-7s %s\n'
endif

OPT_release := -O2 -DNDEBUG
OPT_debug   := -O1 -g -DFLEXLOM_CHECK
OPT_asan    := -O1 -g -DFLEXLOM_CHECK -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
OPT_tsan    := -O1 -g -DFLEXLOM_CHECK -Wno-tsan -fsanitize=thread -fno-omit-frame-pointer
ifeq ($(OPT_$(MODE)),)
  $(error MODE=$(MODE) is not one of release, debug, asan, tsan)
endif

CXXFLAGS ?= $(OPT_$(MODE))
override CXXFLAGS += -std=c++20 -Wall -Wextra -Wshadow -Wno-unused-parameter -fPIC -pthread \
  -fvisibility=hidden -I. -I$(BUILD)/gen -isystem $(CUDA_HOME)/include \
  -DFLEXLOM_VERSION='"$(VERSION)"' -DFMT_HEADER_ONLY
LDFLAGS ?=
override LDFLAGS += -pthread $(filter -fsanitize=%,$(CXXFLAGS))

# $(call objects,SOURCES): the object files of C++ and assembler sources
objects = $(patsubst %,$(BUILD)/obj/%.o,$(1))

# $(eval $(call program,PATH,SOURCES,LIBS)): a program at $(BUILD)/PATH
define program
$(BUILD)/$(1): $(call objects,$(2))
	$$(say) LINK $$@
	@mkdir -p $$(@D)
	$(Q)$(CXX) $(CXXFLAGS) -o $$@ $$(filter %.o %.a,$$^) $(LDFLAGS) $(3)
DEPS += $(patsubst %.o,%.d,$(call objects,$(2)))
endef

# What a build needs from the system, checked (and installed, when allowed) once.
DEPS_STAMP := build/.deps
$(DEPS_STAMP): scripts/bootstrap
	@mkdir -p $(@D)
	$(Q)CUDA_HOME=$(CUDA_HOME) scripts/bootstrap
	@touch $@

$(BUILD)/obj/%.cpp.o: %.cpp | $(DEPS_STAMP)
	$(say) CXX $<
	@mkdir -p $(@D)
	$(Q)$(CXX) $(CXXFLAGS) $(CXXFLAGS_$(firstword $(subst /, ,$<))) -MMD -MP -MF $(@:.o=.d) -c $< -o $@

$(BUILD)/obj/%.S.o: %.S | $(DEPS_STAMP)
	$(say) AS $<
	@mkdir -p $(@D)
	$(Q)$(CXX) $(CXXFLAGS) -MMD -MP -MF $(@:.o=.d) -c $< -o $@

ALL :=
DEPS :=
include $(wildcard pool/rules.mk interpose/rules.mk interpose/*/rules.mk kernels/rules.mk scripts/rules.mk tests/rules.mk tests/*/rules.mk)

.PHONY: all demo test bench gpu-test gpu-bench sanitize fuzz lint install uninstall clean
all: $(ALL)

clean:
	$(Q)rm -rf build

-include $(DEPS)
