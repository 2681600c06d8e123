# shmeta. `make demo` shows the main job, `make test` proves it; both install what they need on Debian 12.
# Also: make, install, lint, format, bench, bench-quick, clean. Switches: V=1 (show commands), SAN=address,undefined, CC=clang.

VERSION := 0.1.0
CC      ?= gcc
Q       := $(if $(V),,@)
BUILD   := build$(if $(SAN),-$(subst $(comma),-,$(SAN)))$(if $(filter clang%,$(CC)),-clang)
comma   := ,

WARN    := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2 -Werror
CFLAGS  ?= -O2 -g
ALLCFLAGS := -std=gnu11 $(CFLAGS) $(WARN) -fPIC -fvisibility=hidden -fno-strict-aliasing -MMD -MP -pthread \
             -D_GNU_SOURCE -DSHMETA_VERSION_STRING='"$(VERSION)"'
LDLIBS_lib := -llmdb
LDFLAGS += -pthread -Wl,-z,relro,-z,now
ifdef SAN
ALLCFLAGS += -fsanitize=$(SAN) -fno-omit-frame-pointer $(if $(findstring undefined,$(SAN)),-fno-sanitize-recover=all)
LDFLAGS   += -fsanitize=$(SAN)
else
ALLCFLAGS += -D_FORTIFY_SOURCE=2 -fstack-protector-strong
LDFLAGS   += -Wl,-z,defs
endif

shm_srcs      := $(sort $(wildcard shm/*.c))
reader_srcs   := $(sort $(wildcard reader/*.c))
backends_srcs := $(sort $(wildcard backends/*.c backends/*/*.c))
writer_srcs   := $(filter-out writer/main.c,$(sort $(wildcard writer/*.c)))
shmetactl_srcs := $(sort $(wildcard tools/shmetactl/*.c))
# The part of shm/ that the library needs: all but the writer's side of the store.
lib_srcs      := $(filter-out shm/store%.c,$(shm_srcs)) $(reader_srcs)

obj = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))

all: lib bin
lib: $(BUILD)/lib/libshmeta.a $(BUILD)/lib/libshmeta.so
bin: $(BUILD)/bin/shmetad $(BUILD)/bin/shmetactl

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALLCFLAGS) $(CPPFLAGS) -I. -c -o $@ $<

$(BUILD)/lib/libshmeta.a: $(call obj,$(lib_srcs))
	@mkdir -p $(@D)
	@rm -f $@
	$(Q)ar rcs $@ $^

$(BUILD)/lib/libshmeta.so.0: $(call obj,$(lib_srcs)) reader/libshmeta.map
	@mkdir -p $(@D)
	$(Q)$(CC) -shared $(LDFLAGS) -Wl,-soname,libshmeta.so.0 -Wl,--version-script=reader/libshmeta.map \
		-o $@ $(filter %.o,$^) $(LDLIBS_lib)

$(BUILD)/lib/libshmeta.so: $(BUILD)/lib/libshmeta.so.0
	$(Q)ln -sf libshmeta.so.0 $@

$(BUILD)/bin/shmetad: $(call obj,writer/main.c $(writer_srcs) $(backends_srcs) $(shm_srcs))
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ -llmdb -lsqlite3 -lconfuse -lsystemd -ljansson

$(BUILD)/bin/shmetactl: $(call obj,$(shmetactl_srcs) $(shm_srcs) $(reader_srcs) $(backends_srcs))
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ -llmdb -lsqlite3 -ljansson

# Tests: one program per folder and per source file below tests/, linked with everything but the two main()s.
test_objs  := $(call obj,$(writer_srcs) $(backends_srcs) $(shm_srcs) $(reader_srcs))
test_progs := $(patsubst tests/%.c,$(BUILD)/tests/%,$(sort $(wildcard tests/unit/*.c tests/contract/*.c tests/process/*.c tests/system/*.c)))
$(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(call obj,$(sort $(wildcard tests/support/*.c))) $(test_objs)
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ -lcriterion -llmdb -lsqlite3 -lconfuse -lsystemd -ljansson
.PRECIOUS: $(BUILD)/obj/%.o

tests: $(test_progs)

clean:
	rm -rf build build-*

.PHONY: all lib bin tests clean
-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
