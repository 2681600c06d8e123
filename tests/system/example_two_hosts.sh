#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The example of two hosts on one PostgreSQL: both follow, both end equal to the tables, and it leaves nothing, interrupted or not.
set -uo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d /tmp/shmeta-two-hosts-test.XXXXXX)
trap 'rm -rf "$work"' EXIT
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
left() {
	find /dev/shm -maxdepth 1 -name 'shmeta-two-hosts-*' -user "$(id -un)" | wc -l
}

before=$(left)
examples/two_hosts.sh 5 >"$work/out" 2>"$work/err"
claim $? 'two hosts on one PostgreSQL end equal to its tables'
[ "$(grep -cE '^  host [ab]: .*: 0 differences$' "$work/out")" -eq 2 ] && grep -qE '^  watermark by psql.* [0-9.]+ ms +[0-9.]+ ms$' "$work/out"
claim $? 'it shows when each host saw a change, and what verify said of each'
[ "$(left)" -eq "$before" ]
claim $? 'it leaves nothing in /dev/shm'

: >"$work/out" # lest the lines of the first run be taken for those of the second, before it has begun
examples/two_hosts.sh 100000 >"$work/out" 2>"$work/err" &
example=$!
for _ in $(seq 600); do
	grep -q '^  topic created' "$work/out" && break
	sleep 0.05
done
kill -TERM $example
wait $example
[ $? -eq 130 ]
claim $? 'interrupted, it ends'
[ "$(left)" -eq "$before" ]
claim $? 'and leaves nothing either'
exit $status
