#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Words of a private dialect, and the terms that this project writes instead. Decisions and the changelog keep the words of their time.
set -euo pipefail
cd "$(dirname "$0")/../.."

status=0
while IFS='=' read -r word term; do
	if git grep -n -I -i -w -E "$word" -- base shm reader writer backends tools include README.md 'docs/*.md' docs/man \
		':!docs/decisions' ':!tools/lint/words.sh'; then
		echo "  ^ write: $term"
		status=1
	fi
done <<'WORDS'
poison(ed|s)?=quarantined row
knocks?=wake-up
deaf=suppress wake-ups
crowd=recent batch size
twins?=duplicates
promoted?=widen to topic
overt(ook|aken)=superseded
storeys?=module, layer, directory
as hints=as advisory records
hint class(es)?=advisory classes
set aside=quarantined
nothing held back=all checks passed
all of it held=all checks passed
the middle one=median
claims? proved=tests passed
WORDS
exit $status
