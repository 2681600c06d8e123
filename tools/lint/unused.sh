#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every external function and variable is used by another file: tools/lint/unused.sh BUILD
# One that only its own file uses is static; one that nobody uses goes. Tests count as users. Public functions are the library's.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=$1

# Not done yet: this list only becomes shorter.
known='ddb_all_topics ddb_judge_row ddb_n shmeta__ask_since'

# Only sources that exist: a build keeps the objects of files that were removed. Fuzz programs replace functions by name (--wrap).
sources=$(git ls-files '*.c' | sed 's/\.c$//' | sort)
objects=$(find "$build/obj" -name '*.o' | sed "s#^$build/obj/##; s#\.o\$##" | sort | comm -12 - <(printf '%s\n' "$sources"))
if ! grep -q '^tests/unit/' <<<"$objects" || ! grep -q '^tools/demo/' <<<"$objects"; then
	echo "$build lacks the objects of tests or of the demo: make all tests demo-programs"
	exit 1
fi
public=$(sed -n '/global:/,/local:/p' reader/libshmeta.map | grep -oE '\bshmeta_[a-z0-9_]+' | tr '\n' ' ')
unused=$(sed "s#^#$build/obj/#; s#\$#.o#" <<<"$objects" | xargs nm -A | awk -v known="$known $public main _.stapsdt.base" '
	BEGIN { count = split(known, k, " "); for (i = 1; i <= count; i++) used[k[i]] = 1 }
	{ file = $1; sub(/:.*/, "", file); sub(/.*\/obj\//, "", file); sub(/\.o$/, ".c", file) }
	$(NF - 1) == "U" { used[$NF] = 1; next }
	$(NF - 1) ~ /^[A-TV-Z]$/ && file !~ /^tests\/(unit|contract|process|fuzz)\// && $NF !~ /^hook_l[0-9]+_/ { owner[$NF] = file }
	END { for (name in owner) if (!(name in used)) print "  " owner[name] ": " name }' | sort)
if [ -n "$unused" ]; then
	printf 'no other file refers to these: make them static, or remove them:\n%s\n' "$unused"
	exit 1
fi
