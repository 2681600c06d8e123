#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The tests of who may do what, on a host that has the package's group: the control socket then belongs to group shmeta. They run with an
# /etc/group of their own that has it. Skipped where nothing can be mounted.
set -uo pipefail
cd "$(dirname "$0")/../.."
build=$(cd "${BUILD:-build}" && pwd)
dir=$(mktemp -d "${SHMETA_TEST_SCRATCH:-/dev/shm}/shmeta-group-XXXXXX")
trap 'rm -rf "$dir"' EXIT
grep -v '^shmeta:' /etc/group >"$dir/group"
echo 'shmeta:x:64999:' >>"$dir/group"
unshare --mount mount --bind "$dir/group" /etc/group 2>/dev/null || {
	echo 'nothing can be mounted here'
	exit 77
}
status=0
for program in test_admin test_writes; do
	# shellcheck disable=SC2016
	if unshare --mount sh -c 'mount --bind "$0" /etc/group && exec "$@"' "$dir/group" \
		"$build/tests/process/$program" --filter '*/who_may_not*' >"$dir/out" 2>&1 &&
		grep -q 'Tested: 1 | Passing: 1' "$dir/out"; then
		echo "ok - $program says who may not, with the group shmeta"
	else
		echo "not ok - $program says who may not, with the group shmeta"
		cat "$dir/out"
		status=1
	fi
done
exit $status
