#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# docs/LAYOUT.md and the code say the same of every shared struct.
# - Each row of the document (offset, bytes, field) is turned into assertions that the compiler judges.
# - The rows of a struct cover all of its bytes, so that no field is missing.
# - Each struct and field with a SHMETA_FROZEN line in shm/*/*.h or reader/*.h has its rows.
set -euo pipefail
cd "$(dirname "$0")/../.."
document=${1:-docs/LAYOUT.md}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0

grep -lE "^SHMETA_FROZEN" shm/*/*.h | sort | sed 's/.*/#include "&"/' >"$work/check.c"
# Headings: ### struct NAME: N bytes (header)
awk -v rows="$work/rows" '
function finish() {
	if (name != "" && next_byte != size) {
		printf "%s: the rows of struct %s end at byte %d of %d\n", FILENAME, name, next_byte, size > "/dev/stderr"
		bad = 1
	}
}
/^### struct [a-z_0-9]+: [0-9]+ bytes/ {
	finish()
	name = $3; sub(/:$/, "", name); size = $4; next_byte = 0
	printf "_Static_assert(sizeof(struct %s) == %d, \"struct %s has another size\");\n", name, size, name
	if (seen[name]++) { printf "%s: struct %s stands there twice\n", FILENAME, name > "/dev/stderr"; bad = 1 }
	print name, "-" > rows
	next
}
/^#/ { finish(); name = "" }
name != "" && /^\| *[0-9]+ *\| *[0-9]+ *\| *`/ {
	split($0, cell, / *\| */)
	field = cell[4]; gsub(/`/, "", field)
	if (cell[2] + 0 != next_byte) {
		printf "%s: struct %s.%s is said to be at %d; the row before it ends at %d\n", FILENAME, name, field, cell[2],
			next_byte > "/dev/stderr"
		bad = 1
	}
	next_byte = cell[2] + cell[3]
	printf "_Static_assert(offsetof(struct %s, %s) == %d, \"%s.%s is elsewhere\");\n", name, field, cell[2], name, field
	printf "_Static_assert(sizeof(((struct %s *)0)->%s) == %d, \"%s.%s has another size\");\n", name, field, cell[3], name, field
	print name, field > rows
}
END { finish(); exit bad }' "$document" >>"$work/check.c" || status=1

structs=$(grep -c ' -$' "$work/rows")
fields=$(grep -vc ' -$' "$work/rows")
if [ "$structs" -lt 25 ] || [ "$fields" -lt 230 ]; then
	echo "$document: only $structs structs with $fields fields were recognised; has the form of its tables changed?"
	status=1
fi
if ! ${CC:-gcc} -std=gnu11 -D_GNU_SOURCE -fsyntax-only -I. "$work/check.c" 2>"$work/errors"; then
	head -n 40 "$work/errors"
	status=1
fi

sed -nE 's/^SHMETA_FROZEN\((\w+), *(\w+),.*/\1 \2/p; s/^SHMETA_FROZEN_SIZE\((\w+),.*/\1 -/p' shm/*/*.h | sort >"$work/frozen"
missing=$(comm -23 "$work/frozen" <(sort "$work/rows"))
if [ -n "$missing" ]; then
	echo "frozen in shm/*/*.h, but not in $document:"
	echo "$missing"
	status=1
fi
if [ $status -eq 0 ]; then
	echo "ok - docs/LAYOUT.md gives every shared field its place and size ($structs structs, $fields fields)"
fi
exit $status
