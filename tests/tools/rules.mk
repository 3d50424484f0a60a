# Tests of options, trace log, launcher, doctor, report, install and bootstrap.
TOOLS_TEST_SOURCES := $(wildcard tests/tools/*.cpp)
$(eval $(call program,tests/tools_unit,$(TOOLS_TEST_SOURCES) \
  $(TOOL_SOURCES) interpose/statistics.cpp interpose/live/file.cpp,-ldl))
ALL += $(BUILD)/tests/tools_unit

TESTS += $(BUILD)/tests/tools_unit tests/tools/launcher tests/tools/doctor tests/tools/install \
  tests/tools/bootstrap tests/tools/trace_log tests/tools/export tests/tools/full_disk tests/tools/advise \
  tests/tools/html tests/tools/viewers/run tests/tools/walk_through tests/tools/completions

# Where a GPU is there is PyTorch, as a rule, whose own reader of snapshots this asks.
GPU_TESTS += tests/tools/viewers/torch_snapshot

# A log of any length, for measuring what reads logs.
$(eval $(call program,tests/large_log,tests/tools/large_log/generate.cpp,))
ALL += $(BUILD)/tests/large_log
