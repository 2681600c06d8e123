#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Run each libFuzzer target for a while: tests/fuzz.sh BUILD SECONDS PROGRAM...
# It begins with its corpus (tests/support/fuzz_seeds.sh) and what former runs found worth keeping in BUILD/corpus/; findings stay in BUILD/findings/.
# Environment: FUZZ_KEEP (not empty: afterwards tests/fuzz/corpus/TARGET is replaced by the fewest inputs that reach as much).
set -euo pipefail
cd "$(dirname "$0")/.."
build=$1 seconds=$2
shift 2
mkdir -p "$build/findings"
SHMETA_TEST_SCRATCH=$(mktemp -d /dev/shm/shmeta-fuzz.XXXXXX)
export SHMETA_TEST_SCRATCH
trap 'rm -rf "$SHMETA_TEST_SCRATCH"' EXIT
failed=0
for program in "$@"; do
	name=$(basename "$program")
	work=$build/corpus/$name
	mkdir -p "$work"
	log=$build/findings/$name.log
	seeds=()
	# libFuzzer takes folders only.
	while read -r seed; do
		if [ -d "$seed" ]; then seeds+=("$seed"); else cp "$seed" "$work/"; fi
	done < <(tests/support/fuzz_seeds.sh "$name")
	longest=65536
	case $name in
	# A configuration is short, and each unknown word of a long one is compared with every option.
	fuzz_config) longest=2048 ;;
	# Steps, rows and changes, of which many small ones say more than a few large ones.
	fuzz_adoption | fuzz_client | fuzz_control | fuzz_postgres | fuzz_sqlite) longest=4096 ;;
	esac
	if "$program" -max_total_time="$seconds" -max_len="$longest" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
		-artifact_prefix="$build/findings/$name-" "$work" "${seeds[@]}" >"$log" 2>&1; then
		echo "ok    $name: $(sed -n 's/^#[0-9]*\tDONE *cov: \([0-9]*\) ft: \([0-9]*\) .*exec\/s: \([0-9]*\) .*/\1 edges, \2 features, \3 inputs a second/p' "$log"), $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs"
	else
		failed=$((failed + 1))
		echo "FAIL  $name; $log"
		tail -n 40 "$log"
		continue
	fi
	if [ -n "${FUZZ_KEEP-}" ]; then
		kept=$build/kept/$name
		rm -rf "$kept"
		mkdir -p "$kept"
		"$program" -set_cover_merge=1 -max_len="$longest" "$kept" "$work" "${seeds[@]}" >>"$log" 2>&1
		mkdir -p "tests/fuzz/corpus/$name"
		rm -f "tests/fuzz/corpus/$name"/*
		cp "$kept"/* "tests/fuzz/corpus/$name/"
		echo "      kept $(find "$kept" -type f | wc -l) of them"
	fi
done
echo "$# targets, $failed failed"
[ "$failed" -eq 0 ]
