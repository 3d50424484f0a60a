# Unit tests of the pool, on a driver in memory.
UNIT_SOURCES := $(sort $(wildcard tests/unit/*.cpp))
$(eval $(call program,tests/pool_unit,$(UNIT_SOURCES) $(POOL_SOURCES)))
POOL_UNIT := $(BUILD)/tests/pool_unit
ALL += $(POOL_UNIT)
TESTS += $(POOL_UNIT)
