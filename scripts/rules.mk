# The manual page comes out of the tool's table of options; completions ask the tool when they are used.
$(BUILD)/flexlom.1: scripts/flexlom.1.in $(BUILD)/flexlom-tool
	$(say) GEN $@
	$(Q)$(BUILD)/flexlom-tool options --man $< >$@

ALL += $(BUILD)/flexlom.1

COMPLETIONDIR ?= $(DATADIR)/bash-completion/completions
ZSHDIR  ?= $(DATADIR)/zsh/site-functions
FISHDIR ?= $(DATADIR)/fish/vendor_completions.d
INSTALLED := $(BINDIR)/flexlom $(LIBEXECDIR)/flexlom-tool $(LIBEXECDIR)/libflexlom.so \
  $(LIBDIR)/libflexlom.so $(MANDIR)/man1/flexlom.1 $(COMPLETIONDIR)/flexlom \
  $(ZSHDIR)/_flexlom $(FISHDIR)/flexlom.fish

# The link beside the tool is how it finds the library, wherever LIBDIR is. It is relative, so that
# the tree may be moved.
install: $(BUILD)/libflexlom.so $(BUILD)/flexlom-tool $(BUILD)/flexlom.1
	$(say) INSTALL '$(DESTDIR)$(PREFIX)'
	$(Q)install -d '$(DESTDIR)$(BINDIR)' '$(DESTDIR)$(LIBEXECDIR)' '$(DESTDIR)$(LIBDIR)' \
	  '$(DESTDIR)$(MANDIR)/man1' '$(DESTDIR)$(COMPLETIONDIR)' '$(DESTDIR)$(ZSHDIR)' '$(DESTDIR)$(FISHDIR)'
	$(Q)sed "s|^installed=''|installed='$(LIBEXECDIR)'|" scripts/flexlom >'$(DESTDIR)$(BINDIR)/flexlom'
	$(Q)chmod 755 '$(DESTDIR)$(BINDIR)/flexlom'
	$(Q)install -m 755 $(BUILD)/flexlom-tool '$(DESTDIR)$(LIBEXECDIR)/flexlom-tool'
	$(Q)install -m 755 $(BUILD)/libflexlom.so '$(DESTDIR)$(LIBDIR)/libflexlom.so'
	$(Q)ln -sf "$$(realpath -m --relative-to='$(LIBEXECDIR)' '$(LIBDIR)/libflexlom.so')" \
	  '$(DESTDIR)$(LIBEXECDIR)/libflexlom.so'
	$(Q)install -m 644 $(BUILD)/flexlom.1 '$(DESTDIR)$(MANDIR)/man1/flexlom.1'
	$(Q)install -m 644 scripts/completions/flexlom.bash '$(DESTDIR)$(COMPLETIONDIR)/flexlom'
	$(Q)install -m 644 scripts/completions/flexlom.zsh '$(DESTDIR)$(ZSHDIR)/_flexlom'
	$(Q)install -m 644 scripts/completions/flexlom.fish '$(DESTDIR)$(FISHDIR)/flexlom.fish'

uninstall:
	$(say) REMOVE '$(DESTDIR)$(PREFIX)'
	$(Q)rm -f $(foreach file,$(INSTALLED),'$(DESTDIR)$(file)')
	$(Q)rmdir '$(DESTDIR)$(LIBEXECDIR)' 2>/dev/null || true
