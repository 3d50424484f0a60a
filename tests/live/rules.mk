# Tests of flexlom top and of the page that processes show (interpose/live).
# Only what they look at, because `make sanitize` builds it twice more.
$(eval $(call program,tests/live_unit,$(wildcard tests/live/*_test.cpp) tests/unit/main.cpp \
  interpose/live/file.cpp interpose/live/read.cpp $(addprefix interpose/tool/,top_text.cpp top_numbers.cpp top_json.cpp \
  output.cpp) $(addprefix interpose/trace/,json_text.cpp json_line.cpp),-ldl))
ALL += $(BUILD)/tests/live_unit
TESTS += $(BUILD)/tests/live_unit

$(eval $(call program,tests/live/subject,tests/live/subject.cpp,\
  -static-libstdc++ -static-libgcc -ldl))
ALL += $(BUILD)/tests/live/subject

# The library built with a sanitizer cannot be preloaded into programs that know nothing of it.
ifeq ($(filter asan tsan,$(MODE)),)
TESTS += tests/live/processes tests/live/screen
endif
GPU_TESTS += tests/live/on_gpu
