#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The pairs of a store and a load that two processes rely on: those listed in shm/page/order.h, and their uses. Checked are that
# - the pairs are numbered from 1 on, each once;
# - a use, a comment that begins with "PAIR n", names the pair as the list does: "PAIR n: NAME"; any other mention is of a pair there is;
# - each pair is used by a store and by a load;
# - no other file of ours names a memory order.
set -euo pipefail
cd "$(dirname "$0")/../.."
order=shm/page/order.h
status=0
complain() {
	echo "$1"
	status=1
}

listed=$(sed -n 's/^ \* PAIR \([0-9]*\): .*/\1/p' $order)
[ "$listed" = "$(seq "$(printf '%s\n' "$listed" | wc -l)")" ] || complain "$order: the pairs are not numbered from 1 on, each once"
for number in $listed; do
	name=$(sed -n "s/^ \* PAIR $number: //p" $order)
	uses=$(git grep -nE "/\* PAIR $number\b" -- '*.c' '*.h' ":!$order" || true)
	wrong=$(printf '%s\n' "$uses" | grep -vE "PAIR $number: $name( \*/|[;,])" || true)
	[ -z "$wrong" ] || complain "PAIR $number is \"$name\"; these uses do not say so:"$'\n'"$wrong"
	lines=$(git grep -h -B1 -E "/\* PAIR $number\b" -- shm reader writer tools ":!$order" || true)
	for way in 'a store:shmeta_(publish|store|swap)' 'a load:shmeta_(observe|load)'; do
		printf '%s\n' "$lines" | grep -qE "${way#*:}" || complain "$order: PAIR $number has no use that is ${way%%:*}"
	done
done
mentioned=$(git grep -hoE 'PAIR [0-9]+' -- '*.c' '*.h' ":!$order" | sed 's/PAIR //' | sort -u)
for number in $mentioned; do
	printf '%s\n' "$listed" | grep -qx "$number" || complain "PAIR $number is not in the list of $order:"$'\n'"$(git grep -nE "PAIR $number\b" -- '*.c' '*.h')"
done
others=$(git grep -n '__ATOMIC_' -- base shm reader writer backends tools ":!$order" ':!tools/lint' || true)
[ -z "$others" ] || complain "a memory order outside $order:"$'\n'"$others"
exit $status
