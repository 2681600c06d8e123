#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The demo on a small database: all of it holds; interrupted, it ends what it started and leaves nothing; and answers that are
# wrong do not pass.
set -uo pipefail
cd "$(dirname "$0")/../.."
build=${BUILD:-build}
work=$(mktemp -d /tmp/shmeta-demo-test.XXXXXX)
demo=
finish() {
	if [ -n "$demo" ]; then
		kill "$demo" 2>/dev/null
		wait "$demo" 2>/dev/null
	fi
	rm -rf "$work"
}
trap finish EXIT
status=0

claim() { # result sentence
	if [ "$1" -eq 0 ]; then
		echo "ok - $2"
	else
		sed 's/^/    /' "$work/out" "$work/err"
		echo "not ok - $2"
		status=1
	fi
}
start() {
	: >"$work/out" # reaches() must not find what the former one printed
	"$build/bin/shmeta-demo" --small >"$work/out" 2>"$work/err" &
	demo=$!
}
reaches() { # title
	for _ in $(seq 600); do
		grep -q "^$1 " "$work/out" && return 0
		sleep 0.05
	done
	return 1
}
children() {
	ps -e -o ppid=,args= | awk -v pid="$demo" '$1 == pid'
}
directory() {
	children | grep -oE '/[^ ]*/shmeta-demo-[A-Za-z0-9]+' | head -n 1
}
ended() {
	local result=0
	wait "$demo" || result=$?
	demo=
	return $result
}

start
ended
claim $? 'the demo holds on a small database'
grep -qE '^  wrong answers +0$' "$work/out" && grep -qE '^  failed reads +0$' "$work/out" &&
	grep -qE '^  compared with SQL +[1-9]' "$work/out" && grep -q ': 0 differences$' "$work/out"
claim $? 'its table says what was compared, and that nothing was wrong or failed'
grep -qE '^  the same by SQL +[1-9][0-9 ]*/s' "$work/out" && grep -q '^All checks passed.$' "$work/out"
claim $? 'it says what the same lookups cost by SQL'
! grep -q $'\033' "$work/out"
claim $? 'it writes no colour into a pipe'

for signal in INT TERM; do
	start
	reaches 3
	dir=$(directory)
	before=$(children | wc -l)
	pid=$demo
	kill -"$signal" "$demo"
	ended
	result=$?
	[ "$result" -gt 128 ] && [ -n "$dir" ] && [ "$before" -ge 2 ] && [ ! -e "$dir" ] && [ -z "$(demo=$pid children)" ]
	claim $? "interrupted by SIG$signal it ends what it started and removes its files"
done

# A change that it was not told of: until the cache has followed, its answers are not the file's. The demo, not its readers, is
# stopped until the change is made: its third step would be over before, on a busy machine.
mkfifo "$work/fifo"
: >"$work/out" # what the run before wrote says nothing of how far this one is
"$build/bin/shmeta-demo" --small >"$work/fifo" 2>"$work/err" &
demo=$!
{
	while IFS= read -r line; do
		[[ $line != '3 '* ]] || kill -STOP "$demo"
		printf '%s\n' "$line"
	done <"$work/fifo"
} >"$work/out" &
reaches 3
dir=$(directory)
sqlite3 "$dir/metadata.db" '.timeout 5000' 'UPDATE segments SET size_bytes = size_bytes + 1'
kill -CONT "$demo"
ended
result=$?
wait
[ $result -eq 1 ] && grep -qE '^  wrong answers +[1-9]' "$work/out" && grep -q '^Some checks failed' "$work/out"
claim $? 'an answer that is not what the file says is counted as wrong, and the demo fails'
exit $status
