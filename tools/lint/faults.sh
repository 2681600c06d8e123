#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The tests that docs/reliability.md and docs/security.md name exist: `program:test` stands for a test in tests/program.c, where a '*' at the
# end of the name stands for the rest of it, and `folder/test_x` or `folder/x.sh` alone for a whole program. And the table of faults has each
# of its rows, 1 to 64, once.
set -uo pipefail
cd "$(dirname "$0")/../.."
status=0
fail() {
	echo "$1"
	status=1
}

for page in docs/reliability.md docs/security.md; do
	named=0
	while read -r name; do
		named=$((named + 1))
		case $name in
		*.sh) [ -f "tests/$name" ] || fail "$page: there is no tests/$name" ;;
		*:*)
			file=tests/${name%%:*}.c test=${name#*:}
			if [ ! -f "$file" ]; then
				fail "$page: there is no $file"
				continue
			fi
			end='[ ,)]'
			[ "${test%\*}" = "$test" ] || end=
			grep -qE "^(Test|ParameterizedTest|CLAIM)\(([A-Za-z0-9_*, ]+, )?${test%\*}($end|\$)" "$file" ||
				fail "$page: $file has no test '$test'"
			;;
		*) [ -f "tests/$name.c" ] || fail "$page: there is no tests/$name.c" ;;
		esac
	done < <(grep -oE '`(unit|contract|process|system|golden|tsan|fuzz)/[A-Za-z0-9_]+(\.sh|:[a-z0-9_]+\*?)?`' "$page" | tr -d '\140' | sort -u)
	[ "$named" -gt 10 ] || fail "$page names $named tests"
done

mapfile -t rows < <(sed -nE 's/^\| ([0-9]+) \| .*/\1/p' docs/reliability.md)
[ "${rows[*]}" = "$(seq -s ' ' 64)" ] || fail "docs/reliability.md: its table of faults has the rows ${rows[*]}"
exit $status
