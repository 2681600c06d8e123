#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Build the Debian packages from what is in the tree into BUILD/deb, and have lintian judge them:
#
#   tools/deb.sh BUILD            what `make deb` does
#   tools/deb.sh BUILD --again    build them a second time elsewhere, under other conditions; they must be equal byte by byte
set -euo pipefail
cd "$(dirname "$0")/.."
tree=$PWD
mkdir -p "$1/deb"
to=$(cd "$1/deb" && pwd)
unset MAKEFLAGS MAKELEVEL MFLAGS CC CFLAGS CPPFLAGS LDFLAGS SAN BUILD VERSION

version=$(dpkg-parsechangelog -l debian/changelog -S Version)
grep -qx "VERSION := ${version%%[-+~]*}" Makefile || {
	echo "debian/changelog says $version, the Makefile another version" >&2
	exit 1
}

packages() { # directory command...: the command runs in a copy of the tree in that directory; the packages lie beside it
	local dir=$1
	shift
	rm -rf "$dir"
	mkdir -p "$dir/shmeta"
	if git rev-parse --git-dir >/dev/null 2>&1; then
		git ls-files -z --cached --others --exclude-standard
	else
		find . \( -name .git -o -path ./build -o -path './build-*' \) -prune -o \( -type f -o -type l \) -print0
	fi | while IFS= read -r -d '' file; do [ ! -e "$file" ] || printf '%s\0' "$file"; done |
		tar -cf - --null -T - | tar -xf - -C "$dir/shmeta"
	(cd "$dir/shmeta" && "$@") >"$dir/log" 2>&1 || {
		tail -n 40 "$dir/log" >&2
		echo "the packages were not built: $dir/log" >&2
		exit 1
	}
}

case ${2-} in
--again)
	# Another path, time zone, language, umask and number of jobs; the clock has gone on, too.
	(umask 027 && TZ=Pacific/Chatham LC_ALL=C.UTF-8 packages "$to/again/elsewhere" dpkg-buildpackage -us -uc -b -j1)
	status=0
	for package in "$to"/*.deb; do
		cmp "$package" "$to/again/elsewhere/$(basename "$package")" && echo "equal: $(basename "$package")" || status=1
	done
	[ $status -ne 0 ] || rm -rf "$to/again"
	exit $status
	;;
esac
packages "$to/build" dpkg-buildpackage -us -uc -b "-j$(nproc)"
rm -f "$to"/*.deb "$to"/*.buildinfo "$to"/*.changes
mv "$to"/build/*.deb "$to"/build/*.buildinfo "$to"/build/*.changes "$to"
lintian --allow-root --fail-on error,warning "$to"/*.changes
rm -rf "$to/build/shmeta"
cd "$tree"
ls "$to"/*.deb
