#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Run each libFuzzer target for a while: tests/fuzz.sh BUILD SECONDS PROGRAM...
# Seeds come from tests/fuzz/corpus/<target>/ and tests/golden/; what is found stays in BUILD/findings/.
set -euo pipefail
cd "$(dirname "$0")/.."
build=$1 seconds=$2
shift 2
mkdir -p "$build/findings"
failed=0
for program in "$@"; do
	name=$(basename "$program")
	work=$build/corpus/$name
	mkdir -p "$work"
	seeds=()
	for folder in "tests/fuzz/corpus/$name" tests/golden; do
		[ -d "$folder" ] && seeds+=("$folder")
	done
	log=$build/findings/$name.log
	# A configuration is short, and each unknown word of a long one is compared with every option.
	longest=65536
	[ "$name" != fuzz_config ] || longest=2048
	if "$program" -max_total_time="$seconds" -max_len="$longest" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
		-artifact_prefix="$build/findings/$name-" "$work" "${seeds[@]}" >"$log" 2>&1; then
		echo "ok    $name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs"
	else
		failed=$((failed + 1))
		echo "FAIL  $name; $log"
		tail -n 40 "$log"
	fi
done
echo "$# targets, $failed failed"
[ "$failed" -eq 0 ]
