#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every event that the code logs is in the table of writer/daemon/events.c, which has no other; the catalog that is made from it is
# one that the journal takes.
set -uo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d /tmp/shmeta-events-XXXXXX)
trap 'rm -rf "$work"' EXIT
failed=0
claim() { # name, what was printed instead of nothing
	if [ -z "$2" ]; then echo "ok - $1"; else echo "not ok - $1"; printf '%s\n' "$2"; failed=1; fi
}

# The table: {"word", "id", ...
sed -n 's/^\t{"\([a-z_-]*\)",\? *$/\1/p; s/^\t{"\([a-z_-]*\)", .*/\1/p' writer/daemon/events.c >"$work/table"
claim 'the table has many events, in the order of their words' \
	"$([ "$(wc -l <"$work/table")" -ge 50 ] && LC_ALL=C sort -uc "$work/table" 2>&1 || wc -l <"$work/table")"

# In the code: the string that follows a priority, a counter or a kind of trouble in the calls that log. The calls may span lines.
git ls-files 'writer/*.c' | grep -v '/events\.c$' | xargs cat | tr -s '\n\t ' ' ' >"$work/code"
{
	grep -oE '\b(sync_log|log_event|log_event_by|connection_evict|log_unlimited|write_line|line_new|trouble|health_trouble)\([^";]*"[a-z_-]+"( : "[a-z_-]+")?' "$work/code"
	grep -oE 'SYNC_AUDIT_EVENT "[a-z]+"' writer/engine/sync.h
} | grep -oE '"[a-z_-]+"' | tr -d '"' | LC_ALL=C sort -u >"$work/used"
claim 'every event that the code logs is in the table, and every one of the table is logged' \
	"$(diff "$work/table" "$work/used" | sed -n 's/^</in the table alone:/p; s/^>/in the code alone:/p')"

"$BUILD/bin/shmetad" --print-catalog >"$work/shmeta.catalog"
claim 'the catalog has an entry for each, with an id of its own' "$(
	ids=$(sed -n 's/^-- \([0-9a-f]\{32\}\)$/\1/p' "$work/shmeta.catalog")
	[ "$(wc -l <<<"$ids")" -eq "$(wc -l <"$work/table")" ] || echo "$(wc -l <<<"$ids") ids"
	sort <<<"$ids" | uniq -d
)"
command -v journalctl >/dev/null && {
	mkdir -p "$work/root/usr/lib/systemd/catalog" "$work/root/var/lib/systemd/catalog"
	cp "$work/shmeta.catalog" "$work/root/usr/lib/systemd/catalog/"
	claim 'the journal takes the catalog in silence' "$(journalctl --root="$work/root" --update-catalog 2>&1)"
	claim 'and has all of its entries' "$(
		n=$(journalctl --root="$work/root" --list-catalog 2>/dev/null | grep -c ' shmeta: ')
		[ "$n" -eq "$(wc -l <"$work/table")" ] || { echo "$n"; journalctl --root="$work/root" --list-catalog 2>&1 | head -5; }
	)"
}
exit $failed
