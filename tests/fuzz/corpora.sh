#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Each fuzz target takes every input of its corpus, and what else it begins with under `make fuzz`.
set -uo pipefail
cd "$(dirname "$0")/../.."

for source in tests/fuzz/fuzz_*.c; do
	name=$(basename "$source" .c)
	mapfile -t seeds < <(tests/support/fuzz_seeds.sh "$name")
	if [ ! -d "tests/fuzz/corpus/$name" ]; then
		echo "not ok - $name has a corpus: tests/fuzz/corpus/$name"
	elif "$BUILD/tests/replay/$name" "${seeds[@]}"; then
		echo "ok - $name takes its corpus"
	else
		echo "not ok - $name takes its corpus: exit status $?; FUZZ_VERBOSE=1 $BUILD/tests/replay/$name ${seeds[*]} names the input"
	fi
done
