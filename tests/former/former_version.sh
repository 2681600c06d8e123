#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A pinned version and this tree work together: an agent of then with its own library and with today's, over the daemon of today; the agent of
# today over the daemon of then; and a store that either left is read or left alone by the other. docs/compatibility.md promises it. Of
# `make faults`, as it builds the pinned version. Skipped where the repository's history does not reach back to it.
set -uo pipefail
cd "$(dirname "$0")/../.."
pinned=f3e0d83
[ -n "${SHMETA_FAULTS-}" ] || {
	echo 'it builds an earlier version, which takes minutes: make faults runs it'
	exit 77
}
git cat-file -e "$pinned^{commit}" 2>/dev/null || {
	echo "there is no commit $pinned here: the history does not reach back, or this is no repository"
	exit 77
}
today=$PWD/${BUILD:-build}
work=$(mktemp -d "${SHMETA_TEST_SCRATCH:-/dev/shm}/shmeta-former-XXXXXX")
daemon=
finish() {
	[ -n "$daemon" ] && kill -KILL "$daemon" 2>/dev/null
	rm -rf "$work"
}
trap finish EXIT
status=0
claim() { # result sentence
	if [ "$1" -eq 0 ]; then
		echo "ok - $2"
	else
		tail -n 20 "$work/out" "$work/log" 2>/dev/null | sed 's/^/    /'
		echo "not ok - $2"
		status=1
	fi
}

mkdir "$work/tree"
git archive "$pinned" | tar -C "$work/tree" -xf -
make -C "$work/tree" -j"$(nproc)" CC="${CC:-cc}" build/bin/shmetad build/lib/libshmeta.so >"$work/out" 2>&1
claim $? "version $pinned builds"
former=$work/tree/build
for one in former today; do
	[ $one = former ] && tree=$work/tree || tree=$PWD
	${CC:-cc} -std=gnu11 -Wall -Werror -I"$tree/include" -o "$work/agent-$one" tests/former/former_agent.c -L"${!one}/lib" -lshmeta >"$work/out" 2>&1
	claim $? "the agent compiles against the header of $one"
done

start() { # former|today: its daemon
	"${!1}/bin/shmetad" --dir "$work/instance" --source "sqlite:$work/source.db" --create >>"$work/log" 2>&1 &
	daemon=$!
	for _ in $(seq 600); do
		"$today/bin/shmetactl" --dir "$work/instance" health >"$work/out" 2>&1 && return 0
		sleep 0.1
	done
	return 1
}
stop() {
	kill -TERM "$daemon" && wait "$daemon"
	daemon=
}
agent() { # header library topic
	LD_LIBRARY_PATH=${!2}/lib timeout 120 "$work/agent-$1" "$work/instance" "$3" >"$work/out" 2>&1
}

start today
claim $? 'the daemon of now starts'
agent former former a
claim $? 'an agent and a library of then write and read over the daemon of now'
agent former today b
claim $? 'an agent of then runs with the library of now'
stop
start former
claim $? 'the daemon of then starts where the one of now ended'
agent today today c
claim $? 'an agent and a library of now write and read over the daemon of then'
agent former former d
claim $? 'and so do those of then'
stop
start today
claim $? 'the daemon of now starts where the one of then ended'
"$today/bin/shmetactl" --dir "$work/instance" verify --source "sqlite:$work/source.db" >"$work/out" 2>&1
claim $? 'its store equals the source, in which both have written'
stop
exit $status
