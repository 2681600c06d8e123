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

# Instances of templates, so that every name in them is filled in. verify also looks for what the unit refers to.
for unit in systemd/*.service systemd/*.socket systemd/*.mount; do
	sed "s|@SBINDIR@|$bin|; s|@BINDIR@|$bin|" "$unit" >"$root/$(basename "$unit")"
done
for unit in shmetad.service shmetad@one.service shmetad.socket shmetad@one.socket run-shmeta.mount shmeta-exporter.service; do
	claim "systemd-analyze accepts $unit in silence" "$(systemd-analyze verify --man=no "$root/$unit" 2>&1)"
done
exposure() { # unit ten-times-the-score
	systemd-analyze security --offline=true --threshold="$2" --no-pager "$root/$1" >"$root/log" 2>&1 || tail -n 1 "$root/log"
}
for unit in shmetad.service shmetad@.service; do
	claim "$unit has an exposure of 1.5 at most" "$(exposure "$unit" 15)"
	claim "$unit with sqlite-only.conf has an exposure of 0.7 at most" "$(
		# Of files outside of the search path no drop-in is read: what it would come to, then.
		grep -v '^#\|^\[Service\]$' systemd/sqlite-only.conf | sed '1i [Service]' | cat "$root/$unit" - >"$root/only-$unit"
		exposure "only-$unit" 7
	)"
	claim "$unit leaves no core" "$(grep -qx 'LimitCORE=0' "$root/$unit" || echo 'no LimitCORE=0')"
	# What systemd 252 does not know it ignores, and verify says so; these two it would take for something else.
	claim "$unit has journald drop no line of the audit" "$(grep -q '^LogRateLimitIntervalSec=0$' "$root/$unit" || echo "it has a rate limit")"
	claim "$unit is of a type that systemd 252 knows" "$(grep -n '^Type=notify-reload\|FileDescriptorStorePreserve' "$root/$unit")"
	claim "$unit sees the user numbers of its peers" "$(grep -n '^PrivateUsers' "$root/$unit")"
done
claim 'shmeta-exporter.service has an exposure of 1.2 at most' "$(exposure shmeta-exporter.service 12)"
claim 'shmeta-exporter.service sees whether a writer runs' "$(grep -n '^ProtectProc\|^ProcSubset' "$root/shmeta-exporter.service")"
claim 'the templates are the units of instance default but for its names' "$(
	for kind in service socket; do
		sed 's|, instance %i||; s|%i\.conf --instance %i|shmeta.conf|; s|shmetactl --instance %i|shmetactl|; s|shmeta\.%i\.|shmeta.|; s|shmeta/%i|shmeta/default|; s|@NAME||' \
			"systemd/shmetad@.$kind" | diff "systemd/shmetad.$kind" -
	done
)"

mkdir -p "$root/usr/lib/sysusers.d" "$root/usr/lib/tmpfiles.d" "$root/etc"
cp systemd/sysusers.d/shmeta.conf "$root/usr/lib/sysusers.d/"
cp systemd/tmpfiles.d/shmeta.conf "$root/usr/lib/tmpfiles.d/"
systemd-sysusers --root="$root" shmeta.conf >"$root/log" 2>&1
claim "sysusers makes the users and both groups" "$(
	grep -q '^shmeta-exporter:' "$root/etc/passwd" &&
	grep -q '^shmeta:' "$root/etc/passwd" && grep -q '^shmeta:' "$root/etc/group" &&
		grep -q '^shmeta-read:.*:shmeta,shmeta-exporter$' "$root/etc/group" || cat "$root/log" "$root/etc/group"
)"
systemd-tmpfiles --root="$root" --create shmeta.conf >"$root/log" 2>&1
claim "tmpfiles makes the directory of the instances" "$([ "$(stat -c %a "$root/run/shmeta" 2>&1)" = 755 ] || cat "$root/log")"
exit $failed
