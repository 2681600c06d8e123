#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Seeded faults: does a test notice? Called by `make mutants`:
#
#   tests/mutants.sh BUILD [WORD...]      only faults whose name contains a word
#
# tests/mutants.txt lists the faults: a line "@@ name file program:filter ..." (a filter is a test's name or suite/name), then the lines
# of the file that are replaced, each behind a "-", and those that stand there instead, behind a "+". The replaced lines must be in the file
# exactly once. In a copy of the tree below BUILD each fault is put in alone, what the programs need is built, and the named tests run: one
# of them must fail. Before that all of them must pass without a fault. A fault that survives, does not apply or does not compile is a
# failure.
set -uo pipefail
cd "$(dirname "$0")/.."
top=$PWD
build=$1
shift
mkdir -p "$build/mutants"
tree=$(cd "$build/mutants" && pwd)
table=$top/tests/mutants.txt
SHMETA_TEST_SCRATCH=$(mktemp -d /dev/shm/shmeta-mutants.XXXXXX)
export SHMETA_TEST_SCRATCH
chmod 711 "$SHMETA_TEST_SCRATCH"
trap 'rm -rf "$SHMETA_TEST_SCRATCH"' EXIT
seconds=${MUTANT_SECONDS:-120}

# The sources as they are, committed or not; objects of an earlier run stay, sources that are gone or have moved do not.
(cd "$tree" && find . -path ./build -prune -o -type f -printf '%P\n') | while read -r file; do
	[ -f "$file" ] || rm -f "$tree/$file"
done
git ls-files -co --exclude-standard | while read -r file; do
	[ -f "$file" ] && ! cmp -s "$file" "$tree/$file" && printf '%s\0' "$file"
done | tar --null -T - -cf - | tar -C "$tree" -xf -
# The tools that tests/pypi.sh has installed.
mkdir -p "$tree/build"
[ -d "$build/pypi" ] && ln -sfn "$(cd "$build/pypi" && pwd)" "$tree/build/pypi"

make_them() { # program...: and the daemon and the tool, which tests of processes start
	local targets=() program
	for program in "$@"; do
		targets+=("build/tests/$program")
		case $program in process/* | contract/test_conformance*) targets+=(bin lib) ;; esac
	done
	(cd "$tree" && make -j"$(nproc)" CC="${CC:-gcc}" "${targets[@]}") >"$tree/make.log" 2>&1
}
run_test() { # program:filter; fails when a test fails, or none is run
	local program=${1%%:*} filter=${1#*:} out=$tree/test.log
	[[ $filter == */* ]] || filter="*/$filter"
	(cd "$tree" && timeout --kill-after=5 "$seconds" "build/tests/$program" --jobs 2 --filter "$filter") >"$out" 2>&1 </dev/null &&
		grep -q 'Tested: [1-9]' "$out"
	local status=$?
	find "$SHMETA_TEST_SCRATCH" -mindepth 1 -delete 2>/dev/null
	return $status
}
# The fault's file with the fault in it, on standard output. Fails where the lines are not there exactly once.
mutate() { # name file
	perl -e '
		my ($table, $name, $file) = @ARGV;
		my ($in, $old, $new) = (0, "", "");
		open(my $t, "<", $table) or die;
		while (<$t>) {
			if (/^@@ (\S+)/) { $in = $1 eq $name; next }
			next if /^----/ or not $in;
			$old .= substr($_, 1) if /^-/;
			$new .= substr($_, 1) if /^\+/;
		}
		local $/;
		open(my $f, "<", $file) or die;
		my $text = <$f>;
		my $at = index($text, $old);
		exit 1 if $old eq "" || $at < 0 || index($text, $old, $at + 1) >= 0;
		substr($text, $at, length $old) = $new;
		print $text;
	' "$table" "$1" "$tree/$2"
}

names=() && declare -A file_of tests_of
while read -r _ name file tests; do
	if [ $# -gt 0 ]; then
		hit=
		for word in "$@"; do [[ $name == *"$word"* ]] && hit=1; done
		[ -n "$hit" ] || continue
	fi
	names+=("$name")
	file_of[$name]=$file
	tests_of[$name]=$tests
done < <(grep '^@@ ' "$table")

failed=0
fail() {
	echo "FAIL  $1"
	failed=$((failed + 1))
}

# ---- without a fault everything passes ------------------------------------------------------------------------------------------
mapfile -t all < <(for name in "${names[@]}"; do tr ' ' '\n' <<<"${tests_of[$name]}"; done | sort -u)
# shellcheck disable=SC2046
make_them $(printf '%s\n' "${all[@]%%:*}" | sort -u) || {
	tail -n 20 "$tree/make.log"
	echo 'FAIL  the tree does not build'
	exit 1
}
for test in "${all[@]}"; do
	run_test "$test" || {
		tail -n 20 "$tree/test.log"
		echo "FAIL  without a fault $test does not pass"
		exit 1
	}
done

# ---- each fault -----------------------------------------------------------------------------------------------------------------
killed=0
for name in "${names[@]}"; do
	file=${file_of[$name]}
	if ! mutate "$name" "$file" >"$tree/mutant"; then
		fail "$name no longer applies to $file"
		continue
	fi
	cp "$tree/mutant" "$tree/$file"
	programs=()
	for test in ${tests_of[$name]}; do programs+=("${test%%:*}"); done
	if ! make_them "${programs[@]}"; then
		grep -m 3 'error' "$tree/make.log"
		fail "$name does not compile"
	else
		by=
		for test in ${tests_of[$name]}; do
			run_test "$test" || {
				by=$test
				break
			}
		done
		if [ -n "$by" ]; then
			echo "ok    $name: $by"
			killed=$((killed + 1))
		else
			fail "$name survived ${tests_of[$name]}"
		fi
	fi
	cp "$top/$file" "$tree/$file"
done
echo "$killed of ${#names[@]} seeded faults were noticed, $failed survived or failed"
[ "$failed" -eq 0 ]
