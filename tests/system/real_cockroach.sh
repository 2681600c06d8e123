#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The contract and conformance suites on a CockroachDB cluster of one's own; `make all tests` comes first:
#
#   tests/system/real_cockroach.sh 'cockroachdb://USER@HOST:26257/defaultdb?sslmode=verify-full&...'
#
# The user makes a database for each test and drops it. Nobody has run this against a cluster yet.
set -uo pipefail
cd "$(dirname "$0")/../.."
if [ $# -ne 1 ]; then
	echo "needs a cluster: tests/system/real_cockroach.sh 'cockroachdb://USER@HOST:PORT/DATABASE?...'"
	exit 77
fi
build=${BUILD:-build}
export SHMETA_TEST_COCKROACH=$1
SHMETA_TEST_SCRATCH=$(mktemp -d /dev/shm/shmeta-real.XXXXXX)
export SHMETA_TEST_SCRATCH
chmod 711 "$SHMETA_TEST_SCRATCH"
trap 'rm -rf "$SHMETA_TEST_SCRATCH"' EXIT
status=0
for run in test_backend:cockroachdb_dialect test_conformance:conformance_cockroachdb test_conformance_ours:conformance_cockroachdb; do
	"$build/tests/contract/${run%%:*}" --jobs 2 --filter "${run#*:}/${FILTER:-*}" || status=1
done
exit $status
