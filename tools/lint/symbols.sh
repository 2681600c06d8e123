#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What the library shows and what it needs: tools/lint/symbols.sh BUILD
# - libshmeta.so.0 exports exactly the functions that include/shmeta.h declares, and reader/libshmeta.map names the same;
# - libshmeta.a defines no symbol without the prefix shmeta_: an archive cannot hide what its files share, so any other name may be
#   the host program's as well;
# - it links libc only;
# - nothing in it can print, abort, exit, read the environment, install handlers or start threads.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=$1
status=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

tools/lint/functions.sh >"$work/header"
nm -D --defined-only "$build/lib/libshmeta.so.0" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort >"$work/exported"
sed -n '/global:/,/local:/p' reader/libshmeta.map | grep -oE '\bshmeta_[a-z0-9_*]+' | sort >"$work/map"

differ() { # title file file
	local out
	if out=$(diff "$2" "$3" | sed -n 's/^</  only in the first:/p; s/^>/  only in the second:/p') && [ -n "$out" ]; then
		printf '%s\n%s\n' "$1" "$out"
		status=1
	fi
}
differ 'include/shmeta.h and the exported symbols differ:' "$work/header" "$work/exported"
differ 'include/shmeta.h and reader/libshmeta.map differ:' "$work/header" "$work/map"
if grep -vE '^shmeta_[a-z0-9]' "$work/exported" || grep '__' "$work/exported"; then
	echo 'these exported symbols are not of the public name space'
	status=1
fi

# _.stapsdt.base is what <sys/sdt.h> finds its notes by: weak, hidden, the same in every program.
unprefixed=$(nm -A --defined-only --extern-only "$build/lib/libshmeta.a" |
	awk 'NF >= 3 && $NF !~ /^shmeta_/ && $NF != "_.stapsdt.base" { print "  " $1, $NF }')
if [ -n "$unprefixed" ]; then
	printf '%s\n%s\n' "$build/lib/libshmeta.a defines names that are not its own:" "$unprefixed"
	status=1
fi

needed=$(readelf -d "$build/lib/libshmeta.so.0" | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p' | sort | tr '\n' ' ')
case $needed in
'libc.so.6 ' | 'ld-linux-x86-64.so.2 libc.so.6 ') ;;
*)
	echo "libshmeta.so.0 links: $needed"
	status=1
	;;
esac

# Fortified forms of snprintf are allowed: sentences are built with them.
forbidden='abort|exit|_exit|_Exit|quick_exit|atexit|__assert_fail|getenv|secure_getenv|setenv|putenv'
forbidden+='|printf|fprintf|vprintf|vfprintf|dprintf|vdprintf|puts|fputs|putchar|fputc|fwrite|perror|syslog|warnx?|errx?'
forbidden+='|__printf_chk|__fprintf_chk|__vfprintf_chk|__dprintf_chk|sprintf|vsprintf|__sprintf_chk|stdout|stderr'
forbidden+='|sigaction|signal|pthread_create|thrd_create|pthread_atfork|system|popen'
for archive in "$build/lib/libshmeta.a"; do
	found=$(nm -A --undefined-only "$archive" | awk -v bad="^($forbidden)$" '$NF ~ bad { print "  " $0 }')
	if [ -n "$found" ]; then
		echo "$archive needs what a library in other people's processes must not call:"
		echo "$found"
		status=1
	fi
done
exit $status
