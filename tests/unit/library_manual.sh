#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# libshmeta(3) and include/shmeta.h say the same: every public function has an entry with the header's parameters, and the list
# of statuses has the header's names, numbers and sentences.
set -euo pipefail
cd "$(dirname "$0")/../.."
page=${1:-docs/man/libshmeta.3.scd}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0

# name(parameter parameter ...)
${CC:-gcc} -std=gnu11 -E -P -I. include/shmeta.h | tr '\n' ' ' | tr ';{}' '\n\n\n' |
	grep -E '\bshmeta_[a-z0-9_]+ *\([^()]*\) *$' | sed -E 's/.*\b(shmeta_[a-z0-9_]+) *\(([^()]*)\) *$/\1(\2)/' |
	awk -F'[(),]' '{
		printf "%s(", $1
		for (i = 2; i < NF; i++) {
			sub(/ +$/, "", $i)
			n = split($i, word, /[ *]+/)
			printf "%s%s", (i > 2 ? " " : ""), word[n]
		}
		print ")"
	}' | sort >"$work/header"
# Entries stand at the beginning of a line, as a prototype in bold or as *name*(_parameter_, ...).
grep -E '^\*' "$page" | tr -d '\\' | sed -E 's/\*+//g' | grep -oE '\bshmeta_[a-z0-9_]+ ?\([^()]*\)' |
	awk -F'[(),]' '{
		name = $1; sub(/ +$/, "", name)
		printf "%s(", name
		for (i = 2; i < NF; i++) {
			sub(/^ +/, "", $i); sub(/ +$/, "", $i)
			n = split($i, word, / +/)
			gsub(/^_|_$/, "", word[n])
			printf "%s%s", (i > 2 ? " " : ""), word[n]
		}
		print ")"
	}' | grep -v '()$' | sort -u >"$work/page"
# Copies share one entry.
grep -E '^\*shmeta_copy_' "$page" | grep -oE 'shmeta_copy_[a-z_]+' | sort -u | sed 's/$/(record buffer bytes ret_bytes)/' >>"$work/page"
sort -u -o "$work/page" "$work/page"

if ! out=$(diff "$work/header" "$work/page"); then
	echo "functions and their parameters: < include/shmeta.h, > $page"
	grep '^[<>]' <<<"$out"
	status=1
fi

sed -n '/define SHMETA_STATUS_LIST/,/^enum shmeta_status/p' include/shmeta.h |
	sed -nE 's/.*X\((\w+), (-?[0-9]+), "([^"]*)"\).*/SHMETA_\1 \2 \3/p' | sort >"$work/statuses"
awk '/^\*SHMETA_[A-Z_]+\* \(-?[0-9]+\)$/ { gsub(/[*()]/, ""); line = $1 " " $2; next } line != "" { sub(/^\t/, ""); print line " " $0; line = "" }' "$page" | sort >"$work/listed"
if ! out=$(diff "$work/statuses" "$work/listed"); then
	echo "statuses: < include/shmeta.h, > $page"
	grep '^[<>]' <<<"$out"
	status=1
fi

if [ "$(wc -l <"$work/header")" -lt 50 ] || [ "$(wc -l <"$work/statuses")" -lt 20 ]; then
	echo "include/shmeta.h: functions or statuses were not recognised"
	status=1
fi
if [ $status -eq 0 ]; then
	echo "ok - libshmeta(3) has every function with its parameters ($(wc -l <"$work/header"))"
	echo "ok - libshmeta(3) has every status with its number and sentence ($(wc -l <"$work/statuses"))"
fi
exit $status
