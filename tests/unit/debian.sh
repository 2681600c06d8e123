#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What debian/ repeats of the tree agrees with it, so that `make deb` does not fail long after a change. tests/system/nspawn_packages.sh
# builds and installs the packages.
set -uo pipefail
cd "$(dirname "$0")/../.."
failed=0
claim() { # name, what was printed instead of nothing
	if [ -z "$2" ]; then echo "ok - $1"; else echo "not ok - $1"; printf '%s\n' "$2"; failed=1; fi
}
claim 'the symbols file of libshmeta0 has what the library exports' "$(
	diff <(sed -n 's/^ \([a-z_]*\)@SHMETA.*/\1/p' debian/libshmeta0.symbols | sort) \
		<(sed -n 's/^\t\(shmeta_[a-z_]*\);$/\1/p' reader/libshmeta.map | sort)
)"
claim 'the newest version of debian/changelog is that of the Makefile' "$(
	[ "$(sed -n '1s/^shmeta (\([0-9.]*\).*/\1/p' debian/changelog)" = "$(sed -n 's/^VERSION := //p' Makefile)" ] || head -n 1 debian/changelog
)"
claim 'the packages are built with what `make` needs' "$(
	# The compiler and its like are there wherever a package is built.
	diff <(tools/setup.sh --list build | grep -vxE 'gcc|make|libc6-dev' | sort) \
		<(sed -n '/^Build-Depends/,/^Standards/p' debian/control | grep -oE '[a-z0-9-]+(-dev|conf|doc)\b' | sort)
)"
claim 'what a package lists is in the tree' "$(
	cat debian/*.docs debian/*.examples | while read -r pattern; do compgen -G "$pattern" >/dev/null || echo "$pattern"; done
)"
exit $failed
