#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# shmeta-abi.json: whole, and the same as what the library shows and the header lists; the build refuses a function that does not say whether
# it may block.
set -uo pipefail
cd "$(dirname "$0")/../.."
build=${BUILD:-build}
json=$build/shmeta-abi.json
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0

claim() { # sentence command...
	local sentence=$1
	shift
	if "$@"; then
		echo "ok - $sentence"
	else
		echo "not ok - $sentence"
		status=1
	fi
}
# The names in one part of the file.
names() {
	awk -v part="\"$1\": {" 'index($0, "  " part) == 1 { inside = 1; next } /^  }/ { inside = 0 } inside && /^    "/ { print }' "$json" |
		sed -E 's/^    "([A-Za-z_0-9]+)".*/\1/' | sort
}
same() {
	diff "$1" "$2"
}

names functions >"$work/functions"
nm -D --defined-only "$build/lib/libshmeta.so" | sed -nE 's/.* (shmeta_[a-z_0-9]+)(@.*)?$/\1/p' | sort -u >"$work/shown"
claim 'every function that the library shows is described, and no other' same "$work/shown" "$work/functions"

names structs >"$work/structs"
list() {
	printf '#include "include/shmeta.h"\n#define NAME(name) shmeta_##name\nlisted: %s(NAME)\n' "$1" | ${CC:-gcc} -E -P -I. - |
		sed -n 's/^listed: //p' | tr ' ' '\n' | sort
}
list SHMETA_STRUCT_LIST >"$work/listed"
claim 'every struct with fields is in the list of those whose sizes are compared at run time' same "$work/listed" "$work/structs"

# Structs of the row of docs/compatibility.md that begins so.
grow_by() {
	grep "^| $1" docs/compatibility.md | sed 's/.*|\(.*\)|$/\1/' | grep -oE '`[a-z_]+`' | tr -d '`' | sed 's/^/shmeta_/' | sort
}
# Structs that have a field of this description.
have() {
	awk -v field="$1" '/^    "shmeta_/ { split($0, part, "\""); name = part[2] } $0 ~ field { print name }' "$json" | sort
}
sized='"name": "size", "type": "size_t", "offset": 0,'
roomy='"name": "reserved2?", "type": "uint64_t", "offset": [0-9]+, "size": 16'
grow_by '' >"$work/decided"
claim 'docs/compatibility.md says of each struct how it grows' same "$work/listed" "$work/decided"
have "$sized" >"$work/sized"
grow_by 'A `size` first' >"$work/grow_sized"
claim 'those that grow by their size have one, and no other' same "$work/sized" "$work/grow_sized"
list SHMETA_GROWING_STRUCT_LIST >"$work/growing"
grow_by 'The memory is' | sort - "$work/sized" >"$work/longer"
claim 'those that may be longer in a later library are in the list of those' same "$work/growing" "$work/longer"
have "$roomy" >"$work/roomy"
grow_by 'Reserved room' >"$work/grow_roomy"
claim 'those that grow into reserved room have it, and no other' same "$work/roomy" "$work/grow_roomy"

whole() {
	[ "$(tr -cd '{' <"$json" | wc -c)" = "$(tr -cd '}' <"$json" | wc -c)" ] && [ "$(wc -l <"$work/functions")" -gt 90 ] &&
		[ "$(wc -l <"$work/structs")" -gt 30 ] && [ "$(names constants | wc -l)" -gt 80 ] && ! grep -q ',$' <(tr '\n' ' ' <"$json" | grep -o ', *[]}]')
}
claim 'the file is whole' whole

blocks() { # function expected
	grep -q "\"$1\": {.*\"may_block\": $2}" "$json"
}
claim 'a lookup that takes options may block' blocks shmeta_get_topic true
claim 'one that takes none does not' blocks shmeta_partition_open false
claim 'what says "as another" is as that one' blocks shmeta_changed_txn true
claim 'a write may block' blocks shmeta_write true
claim 'a submitted one does not' blocks shmeta_submit false

sed 's/ Blocks: never\. *Errors also: ERR_INVALID_ARGUMENT\.$//; s/Threads: any\. Blocks: never\. \*\/$/Threads: any. *\//' include/shmeta.h >"$work/shmeta.h"
refuses() {
	! cmp -s include/shmeta.h "$work/shmeta.h" && ! CC="${CC:-gcc}" tools/abi.sh "$work/shmeta.h" 0 >"$work/out" 2>"$work/errors" &&
		grep -q 'says whether it blocks' "$work/errors"
}
claim 'a function that does not say whether it blocks is refused' refuses
exit $status
