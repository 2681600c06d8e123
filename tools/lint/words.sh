#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Words of a private dialect, and the terms that this project writes instead. A word is looked for in identifiers, too: '_', a digit or
# the end of a name ends it. The changelog keeps the words of its time.
#
# Each line: a name, the word (a Perl expression), the term, and in which folders it is refused; none: everywhere. A name that a system or a
# library gave is no word of ours, so words that such names contain are refused only where they cannot be meant.
set -euo pipefail
cd "$(dirname "$0")/../.."

product=(base shm reader writer backends tools include)
all=("${product[@]}" tests README.md CONTRIBUTING.md docs)

# Not done yet, word by word: this list only becomes shorter.
known='
aside backends/dynamodb/ddb_emit.c
aside reader/lookup/fresh.c
aside reader/lookup/lookup.h
aside reader/snapshot/follow.c
aside reader/snapshot/snapshot.h
room backends/op_errors.c
room backends/op_errors.h
room backends/postgres/pg_move.c
room backends/sqlite/sqlite_move.c
room shm/store/store.h
room shm/store/store_room.c
room tests/unit/test_store.c
room writer/engine/store_health.c
room writer/keys/bounded.c
room writer/keys/bounded.h
'

status=0
while IFS=';' read -r name word term where; do
	read -ra folders <<<"${where:-${all[*]}}"
	while IFS= read -r hit; do
		grep -qxF "$name ${hit%%:*}" <<<"$known" && continue
		printf '%s\n  ^ write: %s\n' "$hit" "$term"
		status=1
	done < <(git grep -n -I -i -P "(?<![a-z])($word)(?![a-z])" -- "${folders[@]}" ':!tools/lint/words.sh' || true)
	while read -r of file; do
		[ "$of" = "$name" ] || continue
		git grep -q -I -i -P "(?<![a-z])($word)(?![a-z])" -- "$file" 2>/dev/null && continue
		echo "tools/lint/words.sh: take '$of $file' off the list of what is not done yet"
		status=1
	done <<<"$known"
done <<'WORDS'
poison;poison(ed|s)?;quarantined row
floor;floor;apply clock, highest;writer backends/sqlite backends/memory backends/dynamodb
got;(struct|enum) got|got_(kind|bad|part|small|sink|free|room);fetch result
room;(sync|store|refuse)_room;store health, store full, space
hints;hints_due|cmd_hints|as hints|hint class(es)?;advisory records
aside;aside;online reconcile, quarantined, reserved, a second connection;base reader writer backends tools include docs
land;land(s|ed)?;drain in-flight writes
crowd;crowd;recent batch size
sign;look_for_sign|(gave|given|gives) (a|no) sign;wake-up
knock;knock(s|ed)?;probe, wake-up
deaf;deaf;suppress wake-ups
twins;twins?;duplicates
promoted;promoted?;widen to topic;base shm reader writer backends tools include docs
overtook;overt(ook|aken);superseded
later;(entry|pass)_later;throttled, postponed, reread
leaf;leaf;block;shm/index
storey;storeys?;module, layer, directory
house;house;module, layer, directory
nothing held back;nothing held back;all checks passed
all of it held;all of it held;all checks passed
the middle one;the middle one;median
claims proved;claims? proved;tests passed
WORDS
exit $status
