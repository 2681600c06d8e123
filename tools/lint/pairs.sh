#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The list of pairs in shm/page/order.h and the places that name one agree: each number that is used is in the list, and each pair of the
# list is used, by a store and by a load.
set -euo pipefail
cd "$(dirname "$0")/../.."
status=0
listed=$(sed -n 's/^ \* PAIR \([0-9]*\) .*/\1/p' shm/page/order.h | sort -n)
if [ "$listed" != "$(seq "$(printf '%s\n' "$listed" | wc -l)")" ]; then
	echo "shm/page/order.h: the pairs are not numbered from 1 on, each once"
	status=1
fi
used=$(git grep -hoE 'PAIR [0-9]+' -- '*.c' '*.h' ':!shm/page/order.h' | sort -u | sed 's/PAIR //')
for number in $used; do
	printf '%s\n' "$listed" | grep -qx "$number" || {
		echo "PAIR $number is not in the list of shm/page/order.h:"
		git grep -nE "PAIR $number\b" -- '*.c' '*.h'
		status=1
	}
done
for number in $listed; do
	lines=$(git grep -h -B1 -E "PAIR $number\b" -- shm reader writer tools ':!shm/page/order.h')
	for way in 'a store:shmeta_(publish|store|swap)' 'a load:shmeta_(observe|load)'; do
		printf '%s\n' "$lines" | grep -qE "${way#*:}" || {
			echo "PAIR $number of shm/page/order.h: no use names ${way%%:*}"
			status=1
		}
	done
done
exit $status
