#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Run test programs and scripts and judge them. Called by `make test`:
#
#   tests/run.sh BUILD PROGRAM|SCRIPT...
#
# What makes it fail, apart from a failed test: a program that ran no test or did not end; a log of a sanitizer (Criterion lets
# leaks pass); a process, a file in /dev/shm or /tmp, or a runner's socket left behind; fewer tests than tests/FLOOR says.
#
# Tests make their directories in SHMETA_TEST_SCRATCH (tests/support/scratch.h). It is empty behind a program that passed; what one that
# failed left there is removed.
#
# A script *.sh is run with BUILD set. It may print lines "ok - claim" and "not ok - claim"; each counts as a test. Without such
# lines it is one test. Exit status 77 skips it.
# Environment: JOBS (tests of a program at once), ONLY (words; run what contains one of them), TEST_TIMEOUT (seconds a test),
# PROGRAM_TIMEOUT (seconds a program), SAN,
# SHMETA_FAULTS (not empty: "make faults": full figures, which are printed as one table at the end, and no floor).
set -uo pipefail
cd "$(dirname "$0")/.."

# Where it is allowed (root, a container with the right), the run gets a /dev/shm of its own: what is left in it is ours alone.
if [ -z "${SHMETA_TEST_PRIVATE-}" ]; then
	export SHMETA_TEST_PRIVATE=no
	if unshare --mount sh -c 'mount -t tmpfs shmeta-tests /dev/shm' 2>/dev/null; then
		export SHMETA_TEST_PRIVATE=yes
		exec unshare --mount bash -c 'mount -t tmpfs shmeta-tests /dev/shm && exec "$@"' bash "tests/run.sh" "$@"
	fi
fi

build=$1
shift
only=${ONLY-}
slow=$([ -n "${SAN-}" ] && echo 4 || echo 1)
# A test's own timeout counts where it is the shorter one; the long forms take their time.
test_timeout=$((${TEST_TIMEOUT:-$([ -n "${SHMETA_FAULTS-}" ] && echo 3600 || echo 60)} * slow))
program_timeout=$((${PROGRAM_TIMEOUT:-240} * slow))
logs=$build/test-logs
rm -rf "$logs"
mkdir -p "$logs/sanitizer"
sanitizer=$(cd "$logs/sanitizer" && pwd)

# Other users' programs read in there, so everybody may pass.
SHMETA_TEST_SCRATCH=$(mktemp -d /dev/shm/shmeta-run.XXXXXX)
export SHMETA_TEST_SCRATCH BUILD=$build
# What the first PostgreSQL of the run made, for the others to copy (tests/support/pg_cluster.c).
SHMETA_TEST_PG=$(mktemp -d /dev/shm/shmeta-run-pg.XXXXXX)
export SHMETA_TEST_PG
chmod 711 "$SHMETA_TEST_SCRATCH" "$SHMETA_TEST_PG"
trap 'rm -rf "$SHMETA_TEST_SCRATCH" "$SHMETA_TEST_PG"' EXIT
export ASAN_OPTIONS="log_path=$sanitizer/asan:abort_on_error=0:detect_stack_use_after_return=0"
export LSAN_OPTIONS="suppressions=$PWD/tests/lsan.supp:print_suppressions=0:exitcode=0"
export UBSAN_OPTIONS="log_path=$sanitizer/ubsan:print_stacktrace=1"
export TSAN_OPTIONS="log_path=$sanitizer/tsan:halt_on_error=0:exitcode=66:second_deadlock_stack=1"
export LC_ALL=C
# Every descendant inherits this, whatever session or process group it moved to: so leftovers are found by it.
token="shmeta-test-run-$$-$RANDOM"

left_files() {
	find /dev/shm /tmp -maxdepth 1 \( -name 'shmeta-*' -o -name 'shmeta_*' \) ! -path "$SHMETA_TEST_SCRATCH" ! -path "$SHMETA_TEST_PG" 2>/dev/null | sort
}
# Criterion's runner names its socket after itself.
left_sockets() {
	local pid
	while read -r pid; do
		[ -e "/tmp/criterion_$pid.sock" ] && echo "/tmp/criterion_$pid.sock"
	done <"$logs/runners"
}
# Only what bounded() starts carries the token.
left_processes() {
	grep -lzs "^SHMETA_TEST_RUN=$token\$" /proc/[0-9]*/environ 2>/dev/null | sed 's|/proc/||; s|/environ||'
}

# Other runs on this machine make files of the same kind: only when nobody else runs can what is left in /tmp be judged.
exec 9</tmp
flock -s 9
left_files >"$logs/files.before"
: >"$logs/runners"
: >"$logs/clauses"
: >"$logs/figures"

stop() {
	local pid
	for pid in $(left_processes); do
		kill -KILL "$pid" 2>/dev/null
	done
	echo "interrupted"
	exit 130
}
trap stop INT TERM HUP

passed=0 failed=0 skipped=0 criterion_tests=0
failures=()
fail() {
	failed=$((failed + 1))
	failures+=("$1")
	echo "FAIL  $1"
}

# A leak whose stack has no frame but libcriterion's and libc's is the runner's own.
only_the_runner_leaks() {
	grep -q 'LeakSanitizer: detected memory leaks' "$1" &&
		! grep -E '^ *#[1-9]' "$1" | grep -vqE '/(libcriterion|libboxfort|libc)\.so\.[0-9]+\+' && ! grep -q 'AddressSanitizer: [^0-9]' "$1"
}

judge_rest() { # name, failures before it: after a program has ended
	local pid log file
	for pid in $(left_processes); do
		# One that is just ending gets a moment.
		for _ in 1 2 3 4 5 6 7 8 9 10; do
			[ -e "/proc/$pid" ] || continue 2
			sleep 0.1
		done
		grep -qzs "^SHMETA_TEST_RUN=$token\$" "/proc/$pid/environ" || continue
		fail "$1 left process $pid: $(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null)"
		kill -KILL "$pid" 2>/dev/null
	done
	for file in "$SHMETA_TEST_SCRATCH"/*; do
		[ -e "$file" ] || continue
		[ "$failed" -gt "$2" ] || fail "$1 left behind: ${file##*/}"
		rm -rf "$file"
	done
	for log in "$sanitizer"/*; do
		[ -s "$log" ] || continue
		if only_the_runner_leaks "$log"; then
			rm -f "$log"
			continue
		fi
		fail "$1 has a sanitizer's report: $log"
		sed -n '1,40p' "$log"
		mkdir -p "$logs/reports"
		mv "$log" "$logs/reports/"
	done
}

# setsid: a session of its own, so that the terminal's signals and the program's leftovers stay apart.
bounded() { # seconds command...: output goes where the caller redirects it
	local seconds=$1
	shift
	SHMETA_TEST_RUN=$token setsid --wait timeout --foreground --signal=TERM --kill-after=10 "$seconds" "$@" 9<&- </dev/null
}

figures() { # output name
	sed -n 's/^figure: /      /p' "$1"
	sed -n "s|^figure: \(.*\)|\1\t$2|p" "$1" >>"$logs/figures"
}

run_criterion() { # path name
	local out=$logs/${2//\//.} status tested=0 passing=0
	# shellcheck disable=SC2016
	bounded "$program_timeout" bash -c 'echo $$ >>"$0" && exec "$@"' "$logs/runners" "$1" --jobs "${JOBS:-2}" --timeout "$test_timeout" --tap="$out.tap" \
		>"$out.out" 2>&1
	status=$?
	if [[ $(grep -a '^\[====\] Synthesis' "$out.out" | tail -n 1) =~ Tested:\ ([0-9]+)\ \|\ Passing:\ ([0-9]+) ]]; then
		tested=${BASH_REMATCH[1]} passing=${BASH_REMATCH[2]}
	fi
	passed=$((passed + passing))
	criterion_tests=$((criterion_tests + tested))
	local skips
	skips=$(grep -a '# SKIP' "$out.tap" 2>/dev/null | sed 's/^ok - /skip  /; s/# SKIP/:/')
	if [ -n "$skips" ]; then
		echo "$skips"
		skipped=$((skipped + $(wc -l <<<"$skips")))
	fi
	if [ "$status" -ne 0 ] || [ "$passing" -ne "$tested" ]; then
		local bad=$((tested - passing))
		[ "$bad" -gt 1 ] && failed=$((failed + bad - 1))
		fail "$2: exit status $status, $passing of $tested passed; $out.out"
		grep -a -v '^\[====\]' "$out.out" | tail -n 60
	elif [ "$tested" -eq 0 ] && [ -z "$skips" ]; then
		fail "$2 ran no test"
	else
		echo "ok    $2 ($passing)"
		figures "$out.out" "$2"
		clauses "$out.tap"
	fi
}

# Of a suite whose tests are clauses of the contract (conformance_ENGINE::a_1_3_..., c7_...): gathered here, told at the end engine by
# engine. A skipped one proves nothing.
clauses() { # tap
	grep -v '# SKIP' "$1" | sed -n \
		-e 's/^ok - conformance_\([a-z0-9_]*\)::a_\([0-9]\)_\([0-9]\)_.*/\1 A\2.\3/p' \
		-e 's/^ok - conformance_\([a-z0-9_]*\)::c\([0-9]*\)_.*/\1 C\2/p' >>"$logs/clauses"
}
tell_clauses() {
	sort "$logs/clauses" | uniq -c |
		awk '{ of[$2] += $1; clauses[$2]++; parts[$2] = parts[$2] " " $3 ":" $1 }
			END { for (e in of) printf "conformance on %s: %d claims of %d clauses proved (%s )\n", e, of[e], clauses[e], parts[e] }' |
		sort
}

# The figures of all programs (tests/support/figure.h) as docs/reliability.md shows them.
tell_figures() {
	[ -s "$logs/figures" ] || return
	echo
	echo "Figures of \`make faults\`, $(date -I), $(git describe --always --dirty 2>/dev/null), $(nproc) processors:"
	echo
	echo '| what is done | how often | what was measured | part |'
	echo '|---|---|---|---|'
	awk -F '\t' '{ printf "| %s | `%s` |\n", $1, $2 }' "$logs/figures"
	echo
}

run_plain() { # path name
	local out=$logs/${2//\//.}.out status
	bounded "$program_timeout" "$1" >"$out" 2>&1
	status=$?
	if [ $status -eq 0 ]; then
		passed=$((passed + 1))
		echo "ok    $2"
	else
		fail "$2: exit status $status; $out"
		tail -n 40 "$out"
	fi
}

run_script() { # path name
	local out=$logs/${2//\//.}.out status good bad
	bounded "$program_timeout" "$1" >"$out" 2>&1
	status=$?
	good=$(grep -ac '^ok - ' "$out")
	bad=$(grep -ac '^not ok - ' "$out")
	if [ $status -eq 77 ]; then
		skipped=$((skipped + 1))
		echo "skip  $2: $(tail -n 1 "$out")"
		return
	fi
	passed=$((passed + good))
	if [ $status -ne 0 ] || [ "$bad" -gt 0 ]; then
		[ "$bad" -gt 1 ] && failed=$((failed + bad - 1))
		fail "$2: exit status $status; $out"
		tail -n 40 "$out"
	else
		[ "$good" -eq 0 ] && passed=$((passed + 1))
		echo "ok    $2$([ "$good" -gt 0 ] && echo " ($good)")"
		figures "$out" "$2"
	fi
}

for path in "$@"; do
	name=${path#*/tests/}
	name=${name#tests/}
	case $path in */tests/tsan/*) name="thread-sanitizer ${name#tsan/}" ;; esac
	if [ -n "$only" ]; then
		hit=
		for word in $only; do
			case $name in *"$word"*) hit=1 ;; esac
		done
		[ -n "$hit" ] || continue
	fi
	failed_before=$failed
	case $path in
	*.sh) run_script "$path" "$name" ;;
	*/tests/tsan/*) run_plain "$path" "$name" ;;
	*) run_criterion "$path" "$name" ;;
	esac
	judge_rest "$name" "$failed_before"
done

for file in $(left_sockets); do
	fail "left behind: $file"
	rm -f "$file"
done
left_files >"$logs/files.after"
new=$(comm -13 "$logs/files.before" "$logs/files.after")
if [ -n "$new" ]; then
	if [ "$SHMETA_TEST_PRIVATE" = yes ]; then
		others=$(grep '^/tmp/' <<<"$new")
		new=$(grep -v '^/tmp/' <<<"$new")
	else
		others=$new new=
	fi
	if [ -n "$others" ]; then
		if flock -n -x 9; then
			new+=${new:+$'\n'}$others
		else
			echo "note: another test run is active on this machine; these files may be its own: ${others//$'\n'/ }"
		fi
	fi
	if [ -n "$new" ]; then
		while read -r file; do
			fail "left behind: $file"
		done <<<"$new"
	fi
fi

if [ -z "$only" ] && [ -z "${SHMETA_FAULTS-}" ]; then
	floor=$(cat tests/FLOOR)
	if [ "$criterion_tests" -lt "$floor" ]; then
		fail "only $criterion_tests Criterion tests were run; tests/FLOOR says at least $floor"
	fi
fi

if [ ${#failures[@]} -gt 0 ]; then
	echo
	printf 'FAIL  %s\n' "${failures[@]}"
fi
tell_clauses
tell_figures
[ "$skipped" -gt 0 ] && echo "$skipped skipped"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
