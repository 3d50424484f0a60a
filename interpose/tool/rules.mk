# The command: build/flexlom-tool. It links no driver and no flexlom library. libstdc++ is
# linked in, because an installed tool meets other distributions.
TOOL_SOURCES := $(filter-out interpose/tool/main.cpp,$(wildcard interpose/tool/*.cpp)) \
  $(wildcard interpose/trace/*.cpp) interpose/options.cpp interpose/live/read.cpp \
  pool/residency/policy.cpp pool/residency/history.cpp pool/residency/decisions.cpp

# What `flexlom html` writes beside the data, in the order in which it runs.
HTML_SCRIPTS := $(addprefix interpose/tool/html/,format.js data.js view.js plot.js levels.js traffic.js \
  page_map.js icicle.js main.js)
$(GEN)/html_assets.inc: interpose/tool/html/embed interpose/tool/html/style.css interpose/tool/html/page.html \
  $(HTML_SCRIPTS)
	$(say) GEN $@
	@mkdir -p $(@D)
	$(Q)interpose/tool/html/embed interpose/tool/html/style.css interpose/tool/html/page.html $(HTML_SCRIPTS) > $@
$(call objects,interpose/tool/html_page.cpp): $(GEN)/html_assets.inc

$(eval $(call program,flexlom-tool,interpose/tool/main.cpp $(TOOL_SOURCES),-static-libstdc++ -static-libgcc -ldl))
ALL += $(BUILD)/flexlom-tool
