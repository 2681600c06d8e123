#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A program that has functions of its own with ordinary names links with libshmeta.a.
set -uo pipefail
cd "$(dirname "$0")/../.."
build=${BUILD:-build}
work=$(mktemp -d /tmp/shmeta-static.XXXXXX)
trap 'rm -rf "$work"' EXIT
status=0

{
	echo '#include "include/shmeta.h"'
	for name in call_new call_free call_append call_finish call_expire frame_end unit_end result_set op_is_exposed link_send \
		link_close link_connect link_step link_events; do
		printf 'void %s(void);\nvoid %s(void) {}\n' "$name" "$name"
	done
	echo 'int main(void) { struct shmeta_client *c; struct shmeta *s;'
	echo '	call_free(); link_send(); return shmeta_client_open(0, 0, &c) == SHMETA_OK || shmeta_open(0, &s) == SHMETA_OK; }'
} >"$work/user.c"
if ${CC:-gcc} -std=gnu11 ${SAN:+-fsanitize=$SAN} -Wall -Werror -I. -o "$work/user" "$work/user.c" "$build/lib/libshmeta.a" -pthread; then
	echo "ok - a program with functions of ordinary names links with the archive"
else
	echo "not ok - a program with functions of ordinary names links with the archive"
	status=1
fi
# _.stapsdt.base belongs to <sys/sdt.h>: weak, hidden, the same in every program.
unprefixed=$(nm --defined-only --extern-only "$build/lib/libshmeta.a" | awk 'NF == 3 && $3 !~ /^(shmeta_|__(odr_)?[at]san|_\.stapsdt\.base$)/ { print $3 }')
if [ -z "$unprefixed" ]; then
	echo "ok - the archive defines only names that begin with shmeta_"
else
	echo "not ok - the archive defines only names that begin with shmeta_:" $unprefixed
	status=1
fi
exit $status
