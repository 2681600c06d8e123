#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The lines that the tests reached, by folder: tools/coverage.sh BUILD. Called by `make coverage`, which says where each line is missing
# in BUILD/coverage.html.
set -euo pipefail
cd "$(dirname "$0")/.."
build=$1
gcovr --root . --object-directory "$build" --filter '(base|shm|reader|writer|backends)/' --csv "$build/coverage.csv" \
	--html-details "$build/coverage.html" "$build/obj" >/dev/null
awk -F, '
NR == 1 { for (i = 1; i <= NF; i++) column[$i] = i; next }
{
	split($column["filename"], part, "/")
	lines[part[1]] += $column["line_total"]; reached[part[1]] += $column["line_covered"]
	lines["all"] += $column["line_total"]; reached["all"] += $column["line_covered"]
}
END {
	n = split("base shm reader writer backends all", order, " ")
	for (i = 1; i <= n; i++)
		if (lines[order[i]])
			printf "%-9s %6d of %6d lines  %5.1f %%\n", order[i], reached[order[i]], lines[order[i]], 100 * reached[order[i]] / lines[order[i]]
}' "$build/coverage.csv"
