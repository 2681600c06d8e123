#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The checks that read the tree, but for clang-tidy: tools/lint/all.sh BUILD. Called by `make lint` after gcc and clang have built everything with
# warnings as errors. Each check is named; all run, so that one run shows every problem.
set -uo pipefail
cd "$(dirname "$0")/../.."
build=$1
jobs=$(nproc)
failed=0

check() { # what command...
	local what=$1 out
	shift
	if out=$("$@" 2>&1); then
		echo "ok    $what"
	else
		failed=$((failed + 1))
		echo "FAIL  $what"
		printf '%s\n' "$out" | tail -n 80
	fi
}

# The same; what the check prints is worth reading also when all is well.
report() { # what command...
	local what=$1 out status=0
	shift
	out=$("$@" 2>&1) || status=$?
	failed=$((failed + (status != 0)))
	[ "$status" -eq 0 ] && echo "ok    $what" || echo "FAIL  $what"
	printf '%s\n' "$out" | sed 's/^/      /'
}

mapfile -t all < <(git ls-files '*.c' '*.h' | while read -r f; do [ -e "$f" ] && echo "$f"; done)
mapfile -t units < <(printf '%s\n' "${all[@]}" | grep '\.c$')
mapfile -t product < <(printf '%s\n' "${units[@]}" | grep -E '^(base|shm|backends|writer|reader|tools)/')


format() {
	clang-format --dry-run -Werror "${all[@]}"
}
static() {
	cppcheck --quiet --std=c11 --enable=warning,performance,portability --inline-suppr --error-exitcode=1 -j "$jobs" \
		--suppress=missingIncludeSystem --suppress=memleak --suppress=uninitvar --suppress=legacyUninitvar --suppress=shiftTooManyBitsSigned --suppress=uninitStructMember --suppress=unknownMacro --suppress=normalCheckLevelMaxBranches \
		--template='{file}:{line}: {severity}: {message} [{id}]' -D_GNU_SOURCE -DSHMETA_VERSION_STRING='"0"' -D__GNUC__=12 \
		-D__x86_64__ -I. "${product[@]}"
}
header_alone() {
	local dir
	dir=$(mktemp -d)
	printf '#include "include/shmeta.h"\nint main(void) { return 0; }\n' >"$dir/alone.c"
	cp "$dir/alone.c" "$dir/alone.cc"
	local status=0
	gcc -std=c11 -pedantic -Wall -Wextra -Wc++-compat -Werror -I. -fsyntax-only "$dir/alone.c" || status=1
	clang -std=c11 -pedantic -Weverything -Wno-padded -Wno-unknown-warning-option -Werror -I. -fsyntax-only "$dir/alone.c" || status=1
	g++ -std=c++11 -pedantic -Wall -Wextra -Wold-style-cast -Werror -I. -fsyntax-only "$dir/alone.cc" || status=1
	clang++ -std=c++17 -pedantic -Wall -Wextra -Werror -I. -fsyntax-only "$dir/alone.cc" || status=1
	rm -rf "$dir"
	return $status
}
one_name() {
	! git ls-files '*.c' '*.h' '*.sh' | sed 's#.*/##' | sort | uniq -d | grep .
}
lengths() { # shmeta.h is one job, the public interface, and more than half of it comments
	! git ls-files 'base/*.[ch]' 'shm/*.[ch]' 'backends/*.[ch]' 'writer/*.[ch]' 'reader/*.[ch]' 'tools/*.[ch]' |
		xargs wc -l | awk '$1 > 750 && $2 != "total"' | grep .
}
notes() {
	! git grep -n -I -E '\b(TODO|FIXME|XXX|HACK)\b' -- . ':!tools/lint' ':!LICENSE' ':!Makefile'
}
first_lines() {
	local f status=0
	for f in "${all[@]}" $(git ls-files '*.sh'); do
		head -n 2 "$f" | grep -q 'SPDX-License-Identifier: Apache-2.0' || {
			echo "$f: the licence line is missing at the top"
			status=1
		}
	done
	return $status
}
whitespace() {
	local status=0
	! git grep -n -I -E '[[:space:]]+$' -- '*.c' '*.h' '*.sh' '*.md' '*.scd' Makefile || status=1
	return $status
}
scripts() {
	local f status=0
	for f in $(git ls-files '*.sh') .ci/run; do
		bash -n "$f" || status=1
	done
	return $status
}

check 'formatted by clang-format' format
check 'directions of includes (tools/lint/layers.sh)' tools/lint/layers.sh
report 'files form layers within each module (tools/lint/circles.sh)' tools/lint/circles.sh "$build"
check 'parts of the engine keep their data (tools/lint/owners.sh)' tools/lint/owners.sh
check 'records are changed in one place (tools/lint/applied.sh)' tools/lint/applied.sh
check 'numbered pairs of loads and stores (tools/lint/pairs.sh)' tools/lint/pairs.sh
check 'symbols of the library (tools/lint/symbols.sh)' tools/lint/symbols.sh "$build"
check 'external names are used by another file (tools/lint/unused.sh)' tools/lint/unused.sh "$build"
check 'every public function has its stack measured (tools/lint/stack.sh)' tools/lint/stack.sh
check 'shmeta.h alone is clean C11 and C++' header_alone
check 'tests that documents name exist (tools/lint/faults.sh)' tools/lint/faults.sh
check 'options and their manual agree (tools/lint/options.sh)' tools/lint/options.sh "$build"
check 'no two files have one name' one_name
check 'no file has more than 750 lines' lengths
check 'comments end at column 100 (tools/lint/comments.sh)' tools/lint/comments.sh
check 'licence lines' first_lines
check 'standard terms (tools/lint/words.sh)' tools/lint/words.sh
check 'no forgotten notes' notes
check 'no white space at line ends' whitespace
check 'scripts parse' scripts
check 'cppcheck' static

if [ "$failed" -gt 0 ]; then
	echo "$failed checks failed"
	exit 1
fi