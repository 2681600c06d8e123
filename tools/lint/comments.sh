#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Comments end at column 100, a tab being eight of them. clang-format holds the code, at 120, and leaves comments alone. Behind code there are
# two kinds that stay on its line: what names the pair of a store or a load (tools/lint/pairs.sh), and the offset of a field.
set -euo pipefail
cd "$(dirname "$0")/../.."

git ls-files -co --exclude-standard '*.c' '*.h' | while read -r file; do [ ! -e "$file" ] || echo "$file"; done |
	LC_ALL=C xargs awk '
FNR == 1 { inside = 0 }
!inside && /[^ \t].*\/\* (PAIR [0-9]+: [^*]*| *[0-9]+ ( [^*]*)?)\*\/$/ { next }
inside || /\/\*/ {
	text = $0
	gsub(/"([^"\\]|\\.)*"/, "", text)
	sub(/[ \t]*\\$/, "", text)
	commented = inside
	while ((at = index(text, inside ? "*/" : "/*")) > 0) {
		text = substr(text, at + 2)
		inside = !inside
		commented = 1
	}
	# Code that follows on the line is held by clang-format.
	if (!commented || (!inside && text != "")) next
	line = $0
	sub(/[ \t]*\\$/, "", line)
	gsub(/[\200-\277]/, "", line) # a character of several bytes is one column
	columns = 0
	count = split(line, part, "\t")
	for (i = 1; i <= count; i++) {
		columns += length(part[i])
		if (i < count) columns += 8 - columns % 8
	}
	if (columns > 100) {
		print FILENAME ":" FNR ": the comment goes to column " columns
		bad = 1
	}
}
END { exit bad }'
