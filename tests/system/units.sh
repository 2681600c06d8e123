#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The files for the service manager are accepted in silence and give the users, groups and modes that the design names.
set -uo pipefail
cd "$(dirname "$0")/../.."
command -v systemd-analyze systemd-sysusers systemd-tmpfiles >/dev/null || exit 77

root=$(mktemp -d /tmp/shmeta-units-XXXXXX)
trap 'rm -rf "$root"' EXIT
bin=$(cd "$BUILD/bin" && pwd)
failed=0
claim() { # name, what was printed instead of nothing
	if [ -z "$2" ]; then echo "ok - $1"; else echo "not ok - $1"; printf '%s\n' "$2"; failed=1; fi
}

for unit in shmetad.service shmetad@.service; do
	sed "s|@SBINDIR@|$bin|; s|@BINDIR@|$bin|" "systemd/$unit" >"$root/$unit"
	claim "systemd-analyze accepts $unit in silence" "$(systemd-analyze verify --man=no "$root/$unit" 2>&1)"
	# Ten times the score that it prints.
	claim "$unit has an exposure of 1.5 at most" "$(
		systemd-analyze security --offline=true --threshold=15 --no-pager "$root/$unit" >"$root/log" 2>&1 ||
			tail -n 1 "$root/log"
	)"
	claim "$unit leaves no core" "$(grep -qx 'LimitCORE=0' "$root/$unit" || echo 'no LimitCORE=0')"
	# What systemd 252 does not know it ignores, and verify says so; these two it would take for something else.
	claim "$unit has journald drop no line of the audit" "$(grep -q '^LogRateLimitIntervalSec=0$' "$root/$unit" || echo "it has a rate limit")"
	claim "$unit is of a type that systemd 252 knows" "$(grep -n 'notify-reload\|FileDescriptorStorePreserve' "$root/$unit")"
done

mkdir -p "$root/usr/lib/sysusers.d" "$root/usr/lib/tmpfiles.d" "$root/etc"
cp systemd/sysusers.d/shmeta.conf "$root/usr/lib/sysusers.d/"
cp systemd/tmpfiles.d/shmeta.conf "$root/usr/lib/tmpfiles.d/"
systemd-sysusers --root="$root" shmeta.conf >"$root/log" 2>&1
claim "sysusers makes the user and both groups" "$(
	grep -q '^shmeta:' "$root/etc/passwd" && grep -q '^shmeta:' "$root/etc/group" &&
		grep -q '^shmeta-read:.*:shmeta$' "$root/etc/group" || cat "$root/log" "$root/etc/group"
)"
systemd-tmpfiles --root="$root" --create shmeta.conf >"$root/log" 2>&1
claim "tmpfiles makes the directory of the instances" "$([ "$(stat -c %a "$root/run/shmeta" 2>&1)" = 755 ] || cat "$root/log")"
exit $failed
