# shmeta. `make demo` shows the main job, `make test` proves it; both install what they need on Debian 12. `make help` lists
# the rest. Switches: V=1 shows commands, CC=clang, SAN=address,undefined (or thread) builds with sanitizers into a folder of
# its own, JOBS=N tests run at once.

VERSION := 0.1.0

comma := ,
ifeq ($(origin CC),default)
CC    := gcc
endif
Q     := $(if $(V),,@)
# Tests of a program that run at once; most of them wait for a daemon, a server or a clock most of the time.
JOBS  ?= $(shell echo $$((2 * $$(nproc))))
# For the goals that build everything: use all cores, unless make was told how many.
PARALLEL = $(if $(findstring -j,$(MAKEFLAGS)),,-j$(shell nproc))
BUILD := build$(if $(SAN),-$(subst $(comma),-,$(SAN)))$(if $(COVERAGE),-coverage)$(if $(findstring clang,$(CC)),-clang)

PREFIX       ?= /usr/local
BINDIR       ?= $(PREFIX)/bin
SBINDIR      ?= $(PREFIX)/sbin
LIBDIR       ?= $(PREFIX)/lib
INCLUDEDIR   ?= $(PREFIX)/include
MANDIR       ?= $(PREFIX)/share/man
BASHCOMPDIR  ?= $(PREFIX)/share/bash-completion/completions
ZSHCOMPDIR   ?= $(PREFIX)/share/zsh/site-functions
SYSTEMDDIR   ?= $(PREFIX)/lib/systemd/system
SYSUSERSDIR  ?= $(PREFIX)/lib/sysusers.d
TMPFILESDIR  ?= $(PREFIX)/lib/tmpfiles.d
CATALOGDIR   ?= $(PREFIX)/lib/systemd/catalog
DATADIR      ?= $(PREFIX)/share/shmeta

WARN      := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2 -Werror
CFLAGS    ?= -O2 -g
ALLCFLAGS := -std=gnu11 $(CFLAGS) $(WARN) -fPIC -fvisibility=hidden -fno-strict-aliasing -MMD -MP -pthread \
             -D_GNU_SOURCE -DSHMETA_VERSION_STRING='"$(VERSION)"'
LDFLAGS   += -pthread -Wl,-z,relro,-z,now
ifdef COVERAGE
ALLCFLAGS += -O1 --coverage -fprofile-update=atomic
LDFLAGS   += --coverage
endif
ifdef SAN
ALLCFLAGS += -fsanitize=$(SAN) -fno-omit-frame-pointer $(if $(findstring undefined,$(SAN)),-fno-sanitize-recover=all)
LDFLAGS   += -fsanitize=$(subst fuzzer-no-link,fuzzer,$(SAN))
# gcc warns that it cannot instrument fences; the tests under ThreadSanitizer do not rely on them.
ifneq ($(findstring thread,$(SAN)),)
ALLCFLAGS += $(if $(findstring clang,$(CC)),,-Wno-tsan)
endif
else
ALLCFLAGS += -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -fstack-protector-strong
LDFLAGS   += -Wl,-z,defs
endif

# base/ and shm/: what every program has.
shm_srcs       := $(sort $(wildcard base/*.c shm/*/*.c))
reader_srcs    := $(sort $(wildcard reader/*.c reader/*/*.c))
backends_srcs  := $(sort $(wildcard backends/*.c backends/*/*.c))
writer_srcs    := $(sort $(wildcard writer/*/*.c))
shmetactl_srcs := $(sort $(wildcard tools/shmetactl/*.c))
monitor_srcs   := $(sort $(wildcard tools/monitor/*.c))
exporter_srcs  := $(sort $(wildcard tools/exporter/*.c))
demo_srcs      := $(sort $(wildcard tools/demo/*.c))
support_srcs   := $(sort $(wildcard tests/support/*.c))
bench_srcs     := $(sort $(wildcard bench/*.c))
# The part of shm/ that the library needs: all but what the writer alone does with the store and the index.
lib_srcs       := $(filter-out shm/store/% shm/tree/tree_check.c shm/page/touch.c shm/page/activity.c shm/page/usage.c shm/index/edit_% shm/index/part_edit.c \
                    shm/index/builder.c,$(shm_srcs)) $(reader_srcs)
# Tools look at stores by code of ours: LMDB believes what it reads, and is not linked to them.
look_srcs      := $(filter-out $(addprefix shm/store/,store.c store_env.c store_proxy.c store_room.c store_txn.c store_values.c),$(shm_srcs))
mans           := $(sort $(wildcard docs/man/*.scd))

LIBS_lib       :=
LIBS_shmetad   := -llmdb -lsqlite3 -lpq -lcurl -lcrypto -lsystemd -ljansson -lm
LIBS_shmetactl := -lsqlite3 -lpq -lcurl -lcrypto -ljansson -lncursesw -ltinfo -lm
LIBS_exporter  := -lmicrohttpd -lsystemd -ljansson -lm
LIBS_bench     := -llmdb -lsqlite3 -ljansson -lpq -lurcu-memb -lurcu-cds -lm

obj = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))

all: lib bin man $(BUILD)/shmeta-abi.json
lib: $(BUILD)/lib/libshmeta.a $(BUILD)/lib/libshmeta.so
bin: $(BUILD)/bin/shmetad $(BUILD)/bin/shmetactl $(BUILD)/bin/shmeta-exporter
man: $(patsubst docs/man/%.scd,$(BUILD)/man/%,$(mans))

# Before anything is compiled: a sentence instead of a missing header.
$(BUILD)/.packages: tools/setup.sh
	@tools/setup.sh --check build
	@mkdir -p $(@D)
	@touch $@

$(BUILD)/obj/%.o: %.c Makefile | $(BUILD)/.packages
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CC      $<")
	$(Q)$(CC) $(ALLCFLAGS) $(CPPFLAGS) -I. -c -o $@ $<

# The library runs on stacks of any size; tests/unit/test_stack.c measures whole calls. Sanitizers make frames of their own.
ifndef SAN
$(call obj,$(lib_srcs)): CPPFLAGS += -Wframe-larger-than=2048
endif

$(BUILD)/lib/libshmeta.a: $(call obj,$(lib_srcs))
	@mkdir -p $(@D)
	@rm -f $@
	$(if $(V),,@echo "  AR      $@")
	$(Q)ar rcs $@ $^

$(BUILD)/lib/libshmeta.so.0: $(call obj,$(lib_srcs)) reader/libshmeta.map
	@mkdir -p $(@D)
	$(if $(V),,@echo "  LINK    $@")
	$(Q)$(CC) -shared $(LDFLAGS) -Wl,-soname,libshmeta.so.0 -Wl,--version-script=reader/libshmeta.map \
		-o $@ $(filter %.o,$^) $(LIBS_lib)

$(BUILD)/lib/libshmeta.so: $(BUILD)/lib/libshmeta.so.0
	$(Q)ln -sf libshmeta.so.0 $@

$(BUILD)/bin/shmetad: $(call obj,writer/shmetad.c $(writer_srcs) $(backends_srcs) $(shm_srcs))
	@mkdir -p $(@D)
	$(if $(V),,@echo "  LINK    $@")
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_shmetad)

$(BUILD)/bin/shmetactl: $(call obj,$(shmetactl_srcs) $(monitor_srcs) $(look_srcs) $(reader_srcs) $(backends_srcs))
	@mkdir -p $(@D)
	$(if $(V),,@echo "  LINK    $@")
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_shmetactl)

$(BUILD)/bin/shmeta-exporter: $(call obj,$(exporter_srcs) $(monitor_srcs) $(look_srcs)) $(BUILD)/obj/page_assets.o
	@mkdir -p $(@D)
	$(if $(V),,@echo "  LINK    $@")
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_exporter)

# The page's style and script, and their hashes for its content security policy.
$(BUILD)/gen/page_assets.c: tools/exporter/embed.sh tools/exporter/page.css tools/exporter/page.js
	@mkdir -p $(@D)
	$(Q)$^ >$@.tmp && mv $@.tmp $@
$(BUILD)/obj/page_assets.o: $(BUILD)/gen/page_assets.c | $(BUILD)/.packages
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALLCFLAGS) $(CPPFLAGS) -I. -c -o $@ $<

$(BUILD)/man/%: docs/man/%.scd | $(BUILD)/.packages
	@mkdir -p $(@D)
	$(Q)scdoc <$< >$@.tmp && mv $@.tmp $@

# The interface for authors of bindings; it fails where a function's comment does not say whether it may block.
$(BUILD)/shmeta-abi.json: tools/abi.sh include/shmeta.h Makefile
	@mkdir -p $(@D)
	$(Q)CC="$(CC)" tools/abi.sh include/shmeta.h $(VERSION) >$@.tmp && mv $@.tmp $@

$(BUILD)/shmeta.pc: reader/shmeta.pc.in Makefile
	@mkdir -p $(@D)
	$(Q)sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' \
		-e 's|@VERSION@|$(VERSION)|' $< >$@

# ---- tests: one program per source file below tests/<kind>/, linked with what it needs of everything but the main()s ----------

criterion_srcs := $(sort $(foreach kind,unit contract process system golden,$(wildcard tests/$(kind)/*.c)))
tsan_srcs      := $(sort $(wildcard tests/tsan/*.c))
fuzz_srcs      := $(sort $(wildcard tests/fuzz/*.c))
script_tests   := $(sort $(filter-out tests/support/%,$(wildcard tests/*/*.sh)))
criterion_progs := $(patsubst tests/%.c,$(BUILD)/tests/%,$(criterion_srcs))
tsan_progs      := $(patsubst tests/%.c,$(BUILD)/tests/%,$(tsan_srcs))
fuzz_progs      := $(patsubst tests/%.c,$(BUILD)/tests/%,$(fuzz_srcs))
replay_progs    := $(patsubst tests/fuzz/%.c,$(BUILD)/tests/replay/%,$(fuzz_srcs))

# Where tests find the programs and the tree they belong to.
$(BUILD)/obj/tests/support/places.o: CPPFLAGS += -DTEST_BUILD_DIR='"$(abspath $(BUILD))"' -DTEST_SOURCE_DIR='"$(CURDIR)"'

$(BUILD)/test/libours.a: $(call obj,$(writer_srcs) $(backends_srcs) $(monitor_srcs) $(shm_srcs) $(reader_srcs))
$(BUILD)/test/libsupport.a: $(call obj,$(support_srcs))
$(BUILD)/test/%.a:
	@mkdir -p $(@D)
	@rm -f $@
	$(Q)ar rcs $@ $^

$(criterion_progs): $(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(BUILD)/test/libsupport.a $(BUILD)/test/libours.a
	@mkdir -p $(@D)
	$(if $(V),,@echo "  LINK    $@")
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ -lcriterion $(LIBS_shmetad)

# Plain main() programs: no Criterion, and of tests/support what the fake writer that they include needs, the faults of the source, and a
# host.
$(tsan_progs): $(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(call obj,tests/support/boot_id.c tests/support/memory_faults.c tests/support/quiet_host.c \
	tests/support/sink_relay.c) $(BUILD)/test/libours.a
	@mkdir -p $(@D)
	$(if $(V),,@echo "  LINK    $@")
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_shmetad)

# Fuzz targets: with libFuzzer, and with a main() that feeds them their corpora; of tests/support what does without Criterion.
$(fuzz_progs): $(BUILD)/tests/fuzz/%: $(BUILD)/obj/tests/fuzz/%.o
$(replay_progs): $(BUILD)/tests/replay/%: $(BUILD)/obj/tests/fuzz/%.o $(call obj,tests/fuzz/replay/main.c)
fuzz_and_replay = $(BUILD)/tests/fuzz/$(1) $(BUILD)/tests/replay/$(1)
$(call fuzz_and_replay,fuzz_import): $(call obj,$(filter-out tools/shmetactl/shmetactl.c,$(shmetactl_srcs)))
$(call fuzz_and_replay,fuzz_import): LIBS_fuzz := -lncursesw -ltinfo
# The connection is played by the target.
$(call fuzz_and_replay,fuzz_postgres): LDFLAGS += $(addprefix -Wl$(comma)--wrap=pg_,ensure connect send sync flush next next_row \
	drop_results query execute copy_start copy_read transaction send_commit send_quiet \
	next_is_commit)
$(fuzz_progs) $(replay_progs): $(BUILD)/test/libsupport.a $(BUILD)/test/libours.a
	@mkdir -p $(@D)
	$(if $(V),,@echo "  LINK    $@")
	$(Q)$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(LIBS_shmetad) $(LIBS_fuzz)
.PRECIOUS: $(BUILD)/obj/%.o

# Programs to learn from, with our warnings; tests/system/readme_example.sh compiles them as a user would.
example_progs := $(patsubst %.c,$(BUILD)/%,$(sort $(wildcard examples/*.c)))
$(BUILD)/obj/examples/%.o: CPPFLAGS += -Iinclude
$(example_progs): $(BUILD)/%: $(BUILD)/obj/%.o $(BUILD)/lib/libshmeta.a
	@mkdir -p $(@D)
	$(if $(V),,@echo "  LINK    $@")
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_lib)
examples: $(example_progs)

tests: $(criterion_progs) $(replay_progs) $(example_progs)
tsan-programs: $(tsan_progs)

# T="unit/test_part process/" runs only what matches; then the floor on the number of tests does not apply.
test:
	@tools/setup.sh build test
	@tests/pypi.sh $(BUILD)
	@$(MAKE) $(PARALLEL) --no-print-directory all tests demo-programs
	@$(if $(SAN)$(if $(tsan_srcs),,none),true,$(MAKE) $(PARALLEL) --no-print-directory SAN=thread tsan-programs)
	@JOBS=$(JOBS) SAN=$(SAN) CC="$(CC)" ONLY="$(T)" tests/run.sh $(BUILD) $(criterion_progs) \
		$(if $(SAN),,$(patsubst tests/%.c,build-thread$(if $(findstring clang,$(CC)),-clang)/tests/%,$(tsan_srcs))) \
		$(script_tests)

# The tests that repeat something for as long as it takes: the same programs, with the full figures, which they print.
faults_progs := $(patsubst %,$(BUILD)/tests/%,process/test_writes unit/test_sync_race unit/test_sync_sqlite process/test_store_kill \
	process/test_survival process/test_pins process/test_busy_source process/test_busy_agents process/test_cold_start process/test_differential \
	process/test_postgres_faults process/test_cockroachdb process/test_postgres_daemon process/test_large \
	process/test_dynamodb_hosts process/test_fairness process/test_adoption process/test_damage unit/test_changes)
faults_scripts := tests/system/nspawn_packages.sh tests/former/former_version.sh
faults:
	@tools/setup.sh build test deb
	@tests/pypi.sh $(BUILD)
	@$(MAKE) $(PARALLEL) --no-print-directory all $(faults_progs)
	@SHMETA_FAULTS=1 PROGRAM_TIMEOUT=7200 JOBS=1 ONLY="$(T)" SAN=$(SAN) CC="$(CC)" tests/run.sh $(BUILD) $(faults_progs) $(faults_scripts)

# Seeded faults that the tests must notice (tests/mutants.txt); M="pins checksum" puts in only those whose name contains a word.
mutants:
	@tools/setup.sh build test
	@CC="$(CC)" tests/mutants.sh $(BUILD) $(M)

# Which lines all tests reach, by folder. A process that is killed says nothing of what it did, so some are reached that are not counted.
coverage:
	@tools/setup.sh build test coverage
	@! [ -d build-coverage ] || find build-coverage -name '*.gcda' -delete
	-@$(MAKE) --no-print-directory COVERAGE=1 test
	@tools/coverage.sh build-coverage

# ---- fuzzing: FUZZ_SECONDS per target; findings stay in build-fuzzer-.../findings -------------------------------------------
FUZZ_SECONDS ?= 10
fuzz:
	@tools/setup.sh build fuzz
	@$(MAKE) $(PARALLEL) --no-print-directory CC=clang SAN=fuzzer-no-link,address,undefined fuzz-run
fuzz-run: $(fuzz_progs)
	@tests/fuzz.sh $(BUILD) $(FUZZ_SECONDS) $(fuzz_progs)

# ---- lint -------------------------------------------------------------------------------------------------------------------
lint:
	@tools/setup.sh build lint bench
	@$(MAKE) $(PARALLEL) --no-print-directory all tests demo-programs bench-programs
	@$(MAKE) $(PARALLEL) --no-print-directory CC=clang all tests demo-programs bench-programs
	@tools/lint/all.sh $(BUILD)
	@$(MAKE) $(PARALLEL) --no-print-directory -k tidy
	@echo 'lint: all checks passed'
# clang-tidy, for what has changed since it was last clean: an object is newer when a header of it is.
all_srcs := $(shm_srcs) $(reader_srcs) $(backends_srcs) $(writer_srcs) writer/shmetad.c $(shmetactl_srcs) $(monitor_srcs) $(exporter_srcs) $(demo_srcs) \
            $(support_srcs) $(criterion_srcs) $(tsan_srcs) $(fuzz_srcs) tests/fuzz/replay/main.c $(bench_srcs) $(wildcard bench/gen/*.c)
tidy: $(patsubst %.c,$(BUILD)/tidy/%,$(all_srcs))
$(BUILD)/tidy/%: %.c $(BUILD)/obj/%.o .clang-tidy tests/.clang-tidy bench/.clang-tidy
	@mkdir -p $(@D)
	@clang-tidy --quiet $< -- -std=gnu11 -D_GNU_SOURCE -DSHMETA_VERSION_STRING='""' -DTEST_BUILD_DIR='""' \
		-DTEST_SOURCE_DIR='""' -I. -I/usr/include/postgresql >$@.log 2>&1 || \
		{ echo "FAIL  clang-tidy $< ($@.log)"; grep -E '(error|warning): ' $@.log; exit 1; }
	@touch $@
# For editors and clangd: how each file is compiled.
compile_commands.json:
	@$(MAKE) -Bnk V=1 --no-print-directory all tests demo-programs bench-programs | tools/compile_commands.sh >$@
format:
	@tools/setup.sh lint
	git ls-files '*.c' '*.h' | xargs clang-format -i

# ---- demo and benchmark -----------------------------------------------------------------------------------------------------
demo:
	@tools/setup.sh build demo
	@$(MAKE) $(PARALLEL) $(if $(V),,-s) --no-print-directory all demo-programs
	@$(MAKE) $(if $(V),,-s) --no-print-directory demo-run
demo-programs: $(BUILD)/bin/shmeta-demo $(BUILD)/bin/shmeta-gen
demo-run: demo-programs
	@$(BUILD)/bin/shmeta-demo

$(BUILD)/bin/shmeta-demo: $(call obj,$(demo_srcs)) $(BUILD)/lib/libshmeta.a
	@mkdir -p $(@D)
	$(if $(V),,@echo "  LINK    $@")
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ -llmdb -lsqlite3

# BENCH=10m is what `make bench` measures by default; 1m the same with a million segments; quick with fewer rounds besides.
BENCH ?= 10m
bench_args_quick := --quick --rounds 5
bench_args_1m    := --segments 1000000
bench_args_10m   := --segments 10000000
bench:
	@tools/setup.sh build bench peers
	@tests/pypi.sh $(BUILD)
	@$(MAKE) $(PARALLEL) --no-print-directory all bench-programs
	@$(MAKE) --no-print-directory bench-run
bench-quick:
	@tools/setup.sh build bench peers
	@tests/pypi.sh $(BUILD)
	@$(MAKE) $(PARALLEL) --no-print-directory all bench-programs
	@$(MAKE) --no-print-directory bench-run BENCH=quick
bench-programs: $(BUILD)/bin/shmeta-bench $(BUILD)/bin/shmeta-gen
bench-run: bench-programs
	$(BUILD)/bin/shmeta-bench $(bench_args_$(BENCH)) --json $(BUILD)/bench.json

$(BUILD)/obj/bench/%.o $(BUILD)/obj/backends/postgres/%.o $(BUILD)/obj/tests/%.o: CPPFLAGS += -I/usr/include/postgresql
$(BUILD)/bin/shmeta-bench: $(call obj,$(bench_srcs) $(shm_srcs) $(reader_srcs) $(wildcard writer/resident/*.c))
	@mkdir -p $(@D)
	$(if $(V),,@echo "  LINK    $@")
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_bench)

# Databases to try things on; not installed.
$(BUILD)/bin/shmeta-gen: $(call obj,bench/gen/shmeta_gen.c)
	@mkdir -p $(@D)
	$(if $(V),,@echo "  LINK    $@")
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ -lsqlite3 -lm

setup:
	@tools/setup.sh build demo test lint fuzz bench

# ---- installation -----------------------------------------------------------------------------------------------------------
units    := $(sort $(wildcard systemd/*.service systemd/*.socket systemd/*.mount))
sysusers := $(sort $(wildcard systemd/*.sysusers systemd/sysusers.d/*.conf))
tmpfiles := $(sort $(wildcard systemd/*.tmpfiles systemd/tmpfiles.d/*.conf))
put = install -m $(1) -t '$(DESTDIR)$(2)' $(3)

install: all $(BUILD)/shmeta.pc
	install -d $(foreach d,$(BINDIR) $(SBINDIR) $(LIBDIR)/pkgconfig $(INCLUDEDIR),'$(DESTDIR)$(d)')
	$(call put,755,$(SBINDIR),$(BUILD)/bin/shmetad)
	$(call put,755,$(BINDIR),$(BUILD)/bin/shmetactl)
	$(call put,755,$(BINDIR),$(BUILD)/bin/shmeta-exporter)
	$(call put,755,$(LIBDIR),$(BUILD)/lib/libshmeta.so.0)
	ln -sf libshmeta.so.0 '$(DESTDIR)$(LIBDIR)/libshmeta.so'
	$(call put,644,$(LIBDIR),$(BUILD)/lib/libshmeta.a)
	$(call put,644,$(INCLUDEDIR),include/shmeta.h)
	$(call put,644,$(LIBDIR)/pkgconfig,$(BUILD)/shmeta.pc)
	$(foreach m,$(mans:docs/man/%.scd=%),install -D -m 644 -t '$(DESTDIR)$(MANDIR)/man$(lastword $(subst ., ,$(m)))' \
		$(BUILD)/man/$(m) &&) true
	install -d '$(DESTDIR)$(BASHCOMPDIR)' && $(BUILD)/bin/shmetactl completion bash >'$(DESTDIR)$(BASHCOMPDIR)/shmetactl' && \
		chmod 644 '$(DESTDIR)$(BASHCOMPDIR)/shmetactl'
	install -d '$(DESTDIR)$(ZSHCOMPDIR)' && $(BUILD)/bin/shmetactl completion zsh >'$(DESTDIR)$(ZSHCOMPDIR)/_shmetactl' && \
		chmod 644 '$(DESTDIR)$(ZSHCOMPDIR)/_shmetactl'
	$(foreach u,$(units),install -d '$(DESTDIR)$(SYSTEMDDIR)' && sed 's|@SBINDIR@|$(SBINDIR)|g; s|@BINDIR@|$(BINDIR)|g' $(u) \
		>'$(DESTDIR)$(SYSTEMDDIR)/$(notdir $(u))' && chmod 644 '$(DESTDIR)$(SYSTEMDDIR)/$(notdir $(u))' &&) true
	$(foreach f,$(sysusers),install -D -m 644 $(f) '$(DESTDIR)$(SYSUSERSDIR)/shmeta.conf' &&) true
	$(foreach f,$(tmpfiles),install -D -m 644 $(f) '$(DESTDIR)$(TMPFILESDIR)/shmeta.conf' &&) true
	install -D -m 644 -t '$(DESTDIR)$(DATADIR)' systemd/sqlite-only.conf $(BUILD)/shmeta-abi.json
	install -d '$(DESTDIR)$(CATALOGDIR)' && $(BUILD)/bin/shmetad --print-catalog >'$(DESTDIR)$(CATALOGDIR)/shmeta.catalog' && \
		chmod 644 '$(DESTDIR)$(CATALOGDIR)/shmeta.catalog'
	[ -e '$(DESTDIR)/etc/shmeta/shmeta.conf' ] || install -D -m 644 -t '$(DESTDIR)/etc/shmeta' systemd/shmeta.conf
	@# The linker's cache: without it programs do not find the library. A package does that by itself.
	$(if $(DESTDIR),,@ldconfig 2>/dev/null || echo 'libshmeta.so is not in the linker cache yet: run ldconfig as root')
	$(if $(DESTDIR),,@echo 'installed; to run it as a service: docs/install.md')

# A configuration that was edited stays.
uninstall:
	! cmp -s systemd/shmeta.conf '$(DESTDIR)/etc/shmeta/shmeta.conf' || rm -f '$(DESTDIR)/etc/shmeta/shmeta.conf'
	rm -f $(foreach f,$(SBINDIR)/shmetad $(BINDIR)/shmetactl $(BINDIR)/shmeta-exporter $(LIBDIR)/libshmeta.so.0 $(LIBDIR)/libshmeta.so \
		$(LIBDIR)/libshmeta.a $(LIBDIR)/pkgconfig/shmeta.pc $(INCLUDEDIR)/shmeta.h \
		$(BASHCOMPDIR)/shmetactl $(ZSHCOMPDIR)/_shmetactl $(foreach m,$(mans:docs/man/%.scd=%),$(MANDIR)/man$(lastword $(subst ., ,$(m)))/$(m)) \
		$(addprefix $(SYSTEMDDIR)/,$(notdir $(units))) $(SYSUSERSDIR)/shmeta.conf $(TMPFILESDIR)/shmeta.conf \
		$(CATALOGDIR)/shmeta.catalog $(DATADIR)/sqlite-only.conf $(DATADIR)/shmeta-abi.json,'$(DESTDIR)$(f)')
	[ ! -d '$(DESTDIR)$(DATADIR)' ] || rmdir --ignore-fail-on-non-empty '$(DESTDIR)$(DATADIR)'
	[ ! -d '$(DESTDIR)/etc/shmeta' ] || rmdir --ignore-fail-on-non-empty '$(DESTDIR)/etc/shmeta'
	$(if $(DESTDIR),,-@ldconfig 2>/dev/null)

# ---- packages: debian/ says what is in which; lintian judges them -----------------------------------------------------------
deb:
	@tools/setup.sh build deb
	@tools/deb.sh $(BUILD)
# The same a second time, elsewhere: equal bytes.
deb-twice: deb
	@tools/deb.sh $(BUILD) --again

clean:
	rm -rf build build-*

help:
	@echo 'make              build the library, shmetad, shmetactl and the man pages into build/'
	@echo 'make demo         show the main job on a generated database (installs what it needs)'
	@echo 'make test         run all tests (installs what it needs); SAN=address,undefined; T="unit/ process/test_x"'
	@echo 'make faults       the long forms: 200 kill -9 of the writer under load, 100 000 read-your-writes pairs, PostgreSQL away for a minute, a million topics and leases'
	@echo 'make mutants      put seeded faults in, one at a time; each must be noticed by a test; M="word ..." for some'
	@echo 'make lint         formatting, clang-tidy, cppcheck, include directions, symbols, documents'
	@echo 'make format       apply clang-format'
	@echo 'make coverage     run all tests and print which lines they reach, by folder'
	@echo 'make compile_commands.json   how each file is compiled, for editors and clangd'
	@echo 'make bench        measure with ten million segments; BENCH=1m: with one million; make bench-quick: less still'
	@echo 'make fuzz         run the fuzz targets for FUZZ_SECONDS=10 each'
	@echo 'make install      DESTDIR= PREFIX=/usr/local; make uninstall takes it away'
	@echo 'make deb          build the Debian packages into build/deb; make deb-twice shows that a second build is equal byte by byte'
	@echo 'make setup        install the Debian packages for all of the above'
	@echo 'make clean        remove what was built'
	@echo 'Switches: V=1  CC=clang  SAN=address,undefined|thread  JOBS=N'

.PHONY: deb deb-twice compile_commands.json coverage all lib bin man examples tests tsan-programs test faults mutants fuzz fuzz-run lint tidy format demo demo-programs demo-run bench bench-quick \
	bench-programs bench-run setup install uninstall clean help
-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
