#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Where a fuzz target's inputs come from, one file or folder a line: tests/support/fuzz_seeds.sh TARGET
set -euo pipefail
cd "$(dirname "$0")/../.."
[ ! -d "tests/fuzz/corpus/$1" ] || echo "tests/fuzz/corpus/$1"
case $1 in
fuzz_part) ls tests/golden/part-*.bin ;;
fuzz_record) ls tests/golden/record-*.bin ;;
esac
