#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The probes of base/probes.h are in the programs that they are for, with their arguments, each is one nop, and the example uses them all.
set -uo pipefail
cd "$(dirname "$0")/../.."
bin=${BUILD:-build}
failed=0
claim() { # name, what was printed instead of nothing
	if [ -z "$2" ]; then echo "ok - $1"; else echo "not ok - $1"; printf '%s\n' "$2"; failed=1; fi
}
if ! [ -e /usr/include/x86_64-linux-gnu/sys/sdt.h ] && ! [ -e /usr/include/sys/sdt.h ]; then
	echo 'ok - # SKIP there is no <sys/sdt.h>, so there are no probes'
	exit 0
fi
# "shmeta NAME ARGUMENTS" of each note.
probes_of() {
	readelf -n "$1" | awk '/Provider: shmeta/ { p = 1 } p && /Name:/ { name = $2 } p && /Arguments:/ { print name, NF - 1; p = 0 }' | sort -u
}
claim 'the library has begin and find' "$(diff <(probes_of "$bin/lib/libshmeta.so.0") <(printf 'begin 1\nfind 2\n'))"
claim 'the daemon has commit, fetch and evict' "$(diff <(probes_of "$bin/bin/shmetad" | grep -v '^\(begin\|find\) ') <(printf 'commit 2\nevict 1\nfetch 3\n'))"
declared=$(sed -n 's/.*DTRACE_PROBE[0-9](shmeta, \([a-z]*\),.*/\1/p' base/probes.h | sort)
claim 'the example traces every probe, and no other' "$(diff <(printf '%s\n' "$declared") <(sed -n 's/^usdt:.*:shmeta:\([a-z]*\) .*/\1/p' examples/probes.bt | sort))"
# Without a tracer: the instruction at the place of each probe of the library.
places=$(readelf -n "$bin/lib/libshmeta.so.0" | awk '/Provider: shmeta/ { p = 1 } p && /Location:/ { sub(/,/, "", $2); print $2; p = 0 }')
claim 'each probe is one nop until somebody traces' "$(
	objdump -d "$bin/lib/libshmeta.so.0" >"${TMPDIR:-/tmp}/probes.$$"
	for place in $places; do
		at=$(printf '%x' "$place")
		grep -qE "^ +$at:\s+90\s+nop" "${TMPDIR:-/tmp}/probes.$$" || echo "$place is no nop"
	done
	rm -f "${TMPDIR:-/tmp}/probes.$$"
)"
exit $failed
