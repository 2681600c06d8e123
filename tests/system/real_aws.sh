#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The contract and conformance suites on DynamoDB itself, in an account of one's own; `make all tests` comes first:
#
#   tests/system/real_aws.sh REGION CEILING_USD [ENDPOINT]
#
# Credentials are found as the daemon finds them (docs/backends.md); they need the right to make, use and remove tables whose names begin
# with shmeta-test. The ceiling bounds what requests can cost at 0.625 USD per million units written and 0.125 USD per million read: the
# tests run one after the other, for an hour at most, each process with units per second that keep the whole below it. Nobody has run
# this against AWS yet; with an endpoint of an emulator it does the same there.
set -uo pipefail
cd "$(dirname "$0")/../.."
if [ $# -lt 2 ]; then
	echo 'needs an account: tests/system/real_aws.sh REGION CEILING_USD [ENDPOINT]'
	exit 77
fi
build=${BUILD:-build}
# An hour, and five seconds' units at once for each of 200 tests, in a daemon and in the other writer beside it.
seconds=$((2 * (3600 + 5 * 200)))
write_s=$(awk -v usd="$2" -v s=$seconds 'BEGIN { printf "%d", usd * 0.8 / 0.625e-6 / s }')
read_s=$(awk -v usd="$2" -v s=$seconds 'BEGIN { printf "%d", usd * 0.2 / 0.125e-6 / s }')
if [ "$write_s" -lt 10 ]; then
	echo "$2 USD is not enough for it: give 0.10 or more"
	exit 2
fi
prefix=shmeta-test-$(date +%s)
export SHMETA_TEST_DYNAMODB="dynamodb://$1/$prefix${3:+?endpoint=$3}" SHMETA_TEST_UNITS="$read_s $write_s"
SHMETA_TEST_SCRATCH=$(mktemp -d /dev/shm/shmeta-real.XXXXXX)
export SHMETA_TEST_SCRATCH
chmod 711 "$SHMETA_TEST_SCRATCH"
trap 'rm -rf "$SHMETA_TEST_SCRATCH"' EXIT
echo "tables $prefix-..., at most $read_s units read and $write_s written a second and process"
status=0 end=$((SECONDS + 3600))
for run in test_backend:dynamodb test_conformance:conformance_dynamodb test_conformance_ours:conformance_dynamodb; do
	left=$((end - SECONDS))
	[ "$left" -gt 0 ] && timeout "$left" "$build/tests/contract/${run%%:*}" --jobs 1 --filter "${run#*:}/${FILTER:-*}" || status=1
done
echo "Tables that are left, of tests that crashed, begin with $prefix."
exit $status
