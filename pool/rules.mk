# The pool: no dlsym, no getenv, no globals. Linked into the shared object and into the unit tests.
POOL_SOURCES := $(wildcard pool/*.cpp pool/residency/*.cpp)
POOL_OBJECTS := $(call objects,$(POOL_SOURCES))
DEPS += $(POOL_OBJECTS:.o=.d)
