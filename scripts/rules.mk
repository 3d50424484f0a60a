# Manual page and completions come out of the tool's table of options; install puts all in place.
$(BUILD)/flexlom.1: scripts/flexlom.1.in $(BUILD)/flexlom-tool
	$(say) GEN $@
	$(Q)$(BUILD)/flexlom-tool options --man $< >$@

$(BUILD)/flexlom.bash: $(BUILD)/flexlom-tool
	$(say) GEN $@
	$(Q)$(BUILD)/flexlom-tool options --bash-completion >$@

ALL += $(BUILD)/flexlom.1 $(BUILD)/flexlom.bash

COMPLETIONDIR ?= $(DATADIR)/bash-completion/completions
INSTALLED := $(BINDIR)/flexlom $(LIBEXECDIR)/flexlom-tool $(LIBEXECDIR)/libflexlom.so \
  $(LIBDIR)/libflexlom.so $(MANDIR)/man1/flexlom.1 $(COMPLETIONDIR)/flexlom

# The link beside the tool is how it finds the library, wherever LIBDIR is. It is relative, so that
# the tree may be moved.
install: $(BUILD)/libflexlom.so $(BUILD)/flexlom-tool $(BUILD)/flexlom.1 $(BUILD)/flexlom.bash
	$(say) INSTALL '$(DESTDIR)$(PREFIX)'
	$(Q)install -d '$(DESTDIR)$(BINDIR)' '$(DESTDIR)$(LIBEXECDIR)' '$(DESTDIR)$(LIBDIR)' \
	  '$(DESTDIR)$(MANDIR)/man1' '$(DESTDIR)$(COMPLETIONDIR)'
	$(Q)sed "s|^installed=''|installed='$(LIBEXECDIR)'|" scripts/flexlom >'$(DESTDIR)$(BINDIR)/flexlom'
	$(Q)chmod 755 '$(DESTDIR)$(BINDIR)/flexlom'
	$(Q)install -m 755 $(BUILD)/flexlom-tool '$(DESTDIR)$(LIBEXECDIR)/flexlom-tool'
	$(Q)install -m 755 $(BUILD)/libflexlom.so '$(DESTDIR)$(LIBDIR)/libflexlom.so'
	$(Q)ln -sf "$$(realpath -m --relative-to='$(LIBEXECDIR)' '$(LIBDIR)/libflexlom.so')" \
	  '$(DESTDIR)$(LIBEXECDIR)/libflexlom.so'
	$(Q)install -m 644 $(BUILD)/flexlom.1 '$(DESTDIR)$(MANDIR)/man1/flexlom.1'
	$(Q)install -m 644 $(BUILD)/flexlom.bash '$(DESTDIR)$(COMPLETIONDIR)/flexlom'

uninstall:
	$(say) REMOVE '$(DESTDIR)$(PREFIX)'
	$(Q)rm -f $(foreach file,$(INSTALLED),'$(DESTDIR)$(file)')
	$(Q)rmdir '$(DESTDIR)$(LIBEXECDIR)' 2>/dev/null || true
