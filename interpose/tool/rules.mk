# The command: build/flexlom-tool. It links no driver and no flexlom library. libstdc++ is
# linked in, because an installed tool meets other distributions.
TOOL_SOURCES := $(filter-out interpose/tool/main.cpp,$(wildcard interpose/tool/*.cpp)) \
  $(wildcard interpose/trace/*.cpp) interpose/options.cpp interpose/live/read.cpp \
  pool/residency/policy.cpp pool/residency/history.cpp pool/residency/decisions.cpp

$(eval $(call program,flexlom-tool,interpose/tool/main.cpp $(TOOL_SOURCES),-static-libstdc++ -static-libgcc -ldl))
ALL += $(BUILD)/flexlom-tool
