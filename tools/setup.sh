#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Install the Debian packages that a purpose needs and that are missing; say nothing when all are there.
#
#   tools/setup.sh PURPOSE...           install what is missing
#   tools/setup.sh --check PURPOSE...   only say what is missing; exit status 1 then
#   tools/setup.sh --list PURPOSE...    print the packages
set -euo pipefail

# The one list. Debian 12 names.
packages() {
	case $1 in
	build) echo gcc make libc6-dev pkgconf liblmdb-dev libsqlite3-dev libpq-dev libcurl4-openssl-dev libssl-dev \
		libjansson-dev libxxhash-dev \
		libsystemd-dev libmicrohttpd-dev libncurses-dev systemtap-sdt-dev scdoc ;;
	demo) echo sqlite3 procps ;;
	test) echo libcriterion-dev sqlite3 postgresql pgbouncer openssl strace procps util-linux iproute2 binutils systemd-container python3-yaml python3-venv zsh mandoc \
		prometheus chromium ;;
	lint) echo libcriterion-dev clang libclang-rt-14-dev clang-format clang-tidy cppcheck g++ binutils git ;;
	coverage) echo gcc gcovr ;;
	fuzz) echo clang libclang-rt-14-dev ;;
	bench) echo sqlite3 libpq-dev liburcu-dev git ;;
	deb) echo debhelper dpkg-dev lintian ;;
	peers) echo redis-server memcached postgresql ;; # what `make bench` compares with, where it is installed
	*)
		echo "tools/setup.sh: no purpose '$1'; there are build, demo, test, lint, coverage, fuzz, bench, deb, peers" >&2
		exit 2
		;;
	esac
}

mode=install
case ${1-} in
--check | --list)
	mode=${1#--}
	shift
	;;
esac
if [ $# -eq 0 ]; then
	echo "usage: tools/setup.sh [--check | --list] PURPOSE..." >&2
	exit 2
fi

wanted=()
for purpose in "$@"; do
	read -r -a some <<<"$(packages "$purpose")"
	wanted+=("${some[@]}")
done
if [ "$mode" = list ]; then
	printf '%s\n' "${wanted[@]}" | sort -u
	exit 0
fi

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
	# Not Debian: the names differ, so nothing is installed and nothing is judged.
	if [ "$mode" = install ]; then
		echo "This is not a Debian system; shmeta needs what Debian calls: ${wanted[*]}" >&2
	fi
	exit 0
fi

declare -A installed=()
while read -r name state; do
	if [ "$state" = installed ]; then
		installed[${name%%:*}]=1
	fi
done < <(dpkg-query -W -f '${binary:Package} ${db:Status-Status}\n' "${wanted[@]}" 2>/dev/null || true)

missing=()
for name in "${wanted[@]}"; do
	if [ -z "${installed[$name]-}" ]; then
		missing+=("$name")
		installed[$name]=1 # name it once
	fi
done
if [ ${#missing[@]} -eq 0 ]; then
	exit 0
fi
if [ "$mode" = check ]; then
	echo "missing Debian packages: ${missing[*]} (for: $*); 'make setup' installs them" >&2
	exit 1
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
	if ! command -v sudo >/dev/null; then
		echo "shmeta needs these Debian packages: ${missing[*]}; install them as root (there is no sudo here)" >&2
		exit 1
	fi
	as_root=(sudo)
fi
echo "Installing Debian packages that shmeta needs to $*: ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
run() {
	if ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive "$@" >"$log" 2>&1; then
		tail -n 20 "$log" >&2
		echo "'$*' failed; the packages are: ${missing[*]}" >&2
		exit 1
	fi
}
run apt-get -o DPkg::Lock::Timeout=600 -qq update
# Tests and benchmarks start servers of their own. Debian's packages would make and start one for the machine as well: not where we
# are the ones who bring them. What is changed for that is as before afterwards.
undo=()
as_before() {
	local what
	rm -f "$log"
	for what in "${undo[@]}"; do
		"${as_root[@]}" sh -c "$what"
	done
}
trap as_before EXIT
has() { [[ " ${missing[*]} " == *" $1 "* ]]; }
clusters=/etc/postgresql-common/createcluster.conf
if has postgresql && [ ! -e "$clusters" ]; then
	run apt-get -o DPkg::Lock::Timeout=600 -qq install -y --no-install-recommends postgresql-common
	undo+=("sed -i 's/^create_main_cluster = false/#create_main_cluster = true/' $clusters")
	run sed -i 's/^#create_main_cluster = true/create_main_cluster = false/' "$clusters"
fi
# No package that comes along starts a daemon: neither the servers, nor dbus in a chroot, where nothing would end it.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	undo+=("rm -f $policy")
	run sh -c "printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy"
fi
# Of prometheus only promtool is used.
for server in pgbouncer prometheus; do
	if has "$server"; then
		undo+=("update-rc.d $server disable >/dev/null 2>&1 || true")
	fi
done
run apt-get -o DPkg::Lock::Timeout=600 -qq install -y --no-install-recommends "${missing[@]}"
