#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The Debian packages, from the build to the purge: built twice to equal bytes, judged by lintian, and installed on a copy of this
# machine's root (an overlay) that systemd boots in a container. An agent reads all the while. Of `make faults`, as it takes minutes.
# SHMETA_DEBS=DIR uses packages that are built already. Skipped where a container cannot be booted (it takes root and control groups).
set -uo pipefail
cd "$(dirname "$0")/../.."
[ -n "${SHMETA_FAULTS-}" ] || {
	echo 'it builds and installs the packages, which takes minutes: make faults runs it'
	exit 77
}
[ "$(id -u)" -eq 0 ] || {
	echo 'a container needs root, and this is uid' "$(id -u)"
	exit 77
}
for program in systemd-nspawn sqlite3 setpriv dpkg-buildpackage lintian pkg-config; do
	command -v "$program" >/dev/null || {
		echo "there is no $program on this machine"
		exit 77
	}
done
if dpkg-query -W -f '${db:Status-Status}' shmeta libshmeta0 2>/dev/null | grep -q installed; then
	echo 'shmeta is installed on this machine, whose root is copied'
	exit 77
fi
work=$(mktemp -d "${SHMETA_TEST_SCRATCH:-/dev/shm}/shmeta-nspawn-XXXXXX")
chmod 755 "$work"
root=$work/root-$$
machine=$(basename "$root")
container=
finish() {
	if [ -n "$container" ] && kill -TERM "$container" 2>/dev/null; then
		for _ in {1..50}; do kill -0 "$container" 2>/dev/null || break; sleep 0.1; done
		kill -KILL "$container" 2>/dev/null
	fi
	umount "$root" 2>/dev/null || umount --lazy "$root" 2>/dev/null
	rm -rf --one-file-system "$work"
	rmdir "/run/systemd/nspawn/propagate/$machine" "/run/systemd/nspawn/unix-export/$machine" 2>/dev/null
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

# ---- a root of its own: this machine's, and what is written to it in memory ----------------------------------------------------
mkdir "$work/upper" "$work/work" "$root"
refusal=$(mount -t overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" shmeta-nspawn "$root" 2>&1) || {
	echo "no overlay can be mounted here: $refusal"
	exit 77
}
nspawn=(systemd-nspawn --quiet --directory="$root" --private-network --register=no --keep-unit)
refusal=$(timeout 20 "${nspawn[@]}" --pipe /bin/true 2>&1) || {
	echo "no container can be started here: $(tail -n 1 <<<"${refusal:-systemd-nspawn did not end within 20 s}")"
	exit 77
}

# ---- the packages ----------------------------------------------------------------------------------------------------------------
failed=0
claim() { # sentence command...
	local sentence=$1
	shift
	if "$@" >"$work/log" 2>&1; then
		echo "ok - $sentence"
	else
		cat "$work/log"
		echo "not ok - $sentence"
		failed=1
	fi
}
debs=${SHMETA_DEBS-}
if [ -z "$debs" ]; then
	debs=$BUILD/deb
	claim 'the packages are built, and lintian has neither errors nor warnings' tools/deb.sh "$BUILD"
	claim 'a second build elsewhere gives the same bytes' tools/deb.sh "$BUILD" --again
	[ "$failed" -eq 0 ] || exit 1
fi
has() { grep -e "$1" >/dev/null; } # reads to the end, unlike grep -q
hardened() { # file
	readelf -dW "$1" | has BIND_NOW && readelf -lW "$1" | has GNU_RELRO && readelf -hW "$1" | has 'Type: *DYN' &&
		readelf -W --dyn-syms "$1" | has __stack_chk_fail && readelf -W --dyn-syms "$1" | has '_chk@'
}
mkdir -p "$root/opt/build/deb" "$root/opt/newer" "$work/newer"
cp "$debs"/*.deb "$root/opt/build/deb/"
for package in shmeta libshmeta0 libshmeta-dev; do
	dpkg-deb -R "$debs/${package}_"*.deb "$work/newer/$package"
	# What a later version would be like, for an upgrade.
	sed -i 's/^Version: .*/&+1/; s/^\(Depends: .*libshmeta0 (= [^)]*\))/\1+1)/' "$work/newer/$package/DEBIAN/control"
done
for program in shmeta/usr/sbin/shmetad shmeta/usr/bin/shmetactl; do
	claim "$(basename $program) is hardened" hardened "$work/newer/$program"
done
for package in shmeta libshmeta0 libshmeta-dev; do dpkg-deb -Znone -b "$work/newer/$package" "$root/opt/newer/" >/dev/null || exit 1; done
rm -rf "$work/newer"

# ---- what runs in it: systemd, and the claims; none of this machine's services --------------------------------------------------
rm -rf "$root"/etc/systemd/system/*.wants "$root"/etc/rc?.d/S* "$root"/etc/systemd/system/shmeta* "$root/usr/sbin/policy-rc.d" "$root/etc/shmeta"
rm -f "$root/etc/machine-id"
: >"$root/etc/machine-id"
cp tests/system/container/{agent.c,helpers.sh,packages.sh} "$root/opt/"
awk '/^## Install/ { here = 1 } here && /^```$/ { if (inside) exit; inside = 1; next } inside' docs/install.md |
	grep -v '^make deb$' >"$root/opt/install.sh"
[ -s "$root/opt/install.sh" ] || {
	echo 'not ok - docs/install.md says how the packages are installed'
	exit 1
}
# Nothing is fetched: what the packages need, this machine has.
echo 'Acquire::http::Proxy "http://127.0.0.1:9/";' >"$root/etc/apt/apt.conf.d/99offline"
cat >"$root/etc/systemd/system/claims.service" <<-'UNIT'
	[Unit]
	SuccessAction=exit-force
	FailureAction=exit-force
	[Service]
	Type=oneshot
	ExecStart=/bin/bash /opt/packages.sh
	StandardOutput=file:/var/claims
	StandardError=file:/var/claims.log
	TimeoutStartSec=300
	TimeoutStopSec=3
UNIT
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -s ../claims.service "$root/etc/systemd/system/multi-user.target.wants/"
ln -sf /usr/lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"

# In the background, so that a signal to this script ends it.
timeout --kill-after=5 360 "${nspawn[@]}" --boot --console=pipe >"$work/console" 2>&1 </dev/null &
container=$!
wait "$container"
container=
[ -s "$root/var/claims.log" ] || {
	echo "no container can be booted here: $(grep -a . "$work/console" | tail -n 1)"
	exit 77
}
grep '^\(not \)\?ok - ' "$root/var/claims"
if grep -q '^not ok' "$root/var/claims" || ! grep -q '^# end' "$root/var/claims"; then
	tail -n 150 "$root/var/claims.log" | tr '\r' '\n'
	tail -n 20 "$work/console"
	exit 1
fi
sed -n 's/^agent: \(.*\)/figure: packages installed, killed, hung, stopped, upgraded, removed under an agent | once each | \1/p' "$root/var/claims.log"
exit $failed
