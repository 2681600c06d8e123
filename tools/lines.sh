#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Lines of the product by folder, as a table: tools/lines.sh [COMMIT...], a column each; without any, of HEAD.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- HEAD

for commit; do
	# An empty pattern is on every line; the answer is COMMIT:PATH:COUNT.
	git grep -c '' "$commit" -- {include,base,shm,backends,writer,reader,tools}/'*.[ch]' |
		sed "s/.*:\(.*\)\/[^/]*:\([0-9]*\)$/$commit \1 \2/"
done | awk -v commits="$*" '
{
	top = $2; sub("/.*", "", top)
	lines[$1, $2] += $3; lines[$1, "all"] += $3
	folders[$2]
	if (top != $2) { lines[$1, top "/"] += $3; folders[top "/"] }
}
function row(folder, to, text, i) {
	text = "| " folder " |"
	for (i = 1; i <= count; i++) text = text sprintf(" %d |", lines[commit[i], folder])
	print text | to
}
END {
	count = split(commits, commit, " ")
	printf "| folder |"; for (i = 1; i <= count; i++) printf " %s |", commit[i]; print ""
	printf "|---|"; for (i = 1; i <= count; i++) printf "---:|"; print ""
	fflush()
	for (f in folders) row(f, "LC_ALL=C sort")
	close("LC_ALL=C sort")
	row("all", "cat")
}'
