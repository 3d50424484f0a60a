# Unit tests of the pool, on a driver in memory.
UNIT_SOURCES := $(sort $(wildcard tests/unit/*.cpp))
$(eval $(call program,tests/pool_unit,$(UNIT_SOURCES) $(POOL_SOURCES)))
ALL += $(BUILD)/tests/pool_unit
TESTS += $(BUILD)/tests/pool_unit
