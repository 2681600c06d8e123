#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The layers of each module, computed from the symbols of its objects: tools/lint/circles.sh BUILD [MODULE]...
# - a file stands above each file of its module whose functions or data it uses: the files of a module form layers, printed from the
#   bottom to the top, and no circle;
# - what the files of an engine share bears the engine's prefix.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=$1
shift
modules=(base shm backends/sql backends/memory backends/sqlite backends/postgres backends/dynamodb reader writer tools/monitor
	tools/shmetactl tools/exporter tools/demo)
declare -A prefixes=(
	[backends/sqlite]='sqlite_|backend_sqlite$'
	[backends/postgres]='pg_|backend_(postgresql|cockroachdb)$'
	[backends/dynamodb]='ddb_|backend_dynamodb$'
)
status=0

layers() { # module; the objects on stdin
	xargs nm -A -g | awk -v module="$1" '
	{
		file = $1; sub(/:.*/, "", file); sub(/.*\/obj\//, "", file); sub(/\.o$/, ".c", file); sub("^" module "/", "", file)
		kind = $(NF - 1)
		if (!(file in seen)) { seen[file] = 1; files[++count] = file }
		if (kind == "U") wants[file, $NF] = 1
		else if (kind != "w" && kind != "v") owner[$NF] = file
	}
	END {
		for (pair in wants) {
			split(pair, p, SUBSEP)
			if ((p[2] in owner) && owner[p[2]] != p[1]) { uses[p[1], owner[p[2]]] = 1; why[p[1], owner[p[2]]] = p[2] }
		}
		for (pair in uses) reach[pair] = 1
		for (k = 1; k <= count; k++)
			for (i = 1; i <= count; i++)
				if ((files[i], files[k]) in reach)
					for (j = 1; j <= count; j++)
						if ((files[k], files[j]) in reach) reach[files[i], files[j]] = 1
		for (i = 1; i <= count; i++)
			if ((files[i], files[i]) in reach) { circle[files[i]] = 1; circling++ }
		# A file stands one above the highest that it uses, but for those of its own circle.
		do {
			moved = 0
			for (pair in uses) {
				split(pair, p, SUBSEP)
				if (((p[2], p[1]) in reach) || layer[p[1]] > layer[p[2]]) continue
				layer[p[1]] = layer[p[2]] + 1; moved = 1
			}
			for (i = 1; i <= count; i++)
				for (j = 1; j <= count; j++)
					if (((files[i], files[j]) in reach) && ((files[j], files[i]) in reach) && layer[files[i]] < layer[files[j]]) {
						layer[files[i]] = layer[files[j]]; moved = 1
					}
		} while (moved)
		for (i = 1; i <= count; i++)
			if (layer[files[i]] > top) top = layer[files[i]]
		print module ":"
		for (l = 0; l <= top; l++) {
			line = ""
			for (i = 1; i <= count; i++)
				if (layer[files[i]] + 0 == l) line = line " " files[i] ((files[i] in circle) ? "*" : "")
			print "  " l ":" line
		}
		if (circling + 0 > 0) print "  (* in a circle: " circling ")"
		if (circling + 0 == 0) exit 0
		print module ": " circling " files stand in circles:"
		for (pair in uses) {
			split(pair, p, SUBSEP)
			if ((p[2], p[1]) in reach) print "  " p[1] " uses " why[pair] " of " p[2] | "sort"
		}
		close("sort")
		exit 1
	}'
}

for module in "${@:-${modules[@]}}"; do
	objects=$(git ls-files -co --exclude-standard "$module/*.c" 2>/dev/null | sort -u | while read -r f; do
		if [ -e "$f" ]; then echo "$build/obj/${f%.c}.o"; fi
	done)
	[ -n "$objects" ] || continue
	layers "$module" <<<"$objects" || status=1
	[ -n "${prefixes[$module]:-}" ] || continue
	xargs nm -A -g --defined-only <<<"$objects" | awk -v prefix="^(${prefixes[$module]})" '
		$NF !~ prefix { sub(/:.*/, "", $1); print "  " $1 " defines " $NF ", which has not the prefix of its module"; bad = 1 }
		END { exit bad }' || status=1
done
exit $status
