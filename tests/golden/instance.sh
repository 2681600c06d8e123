#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Instances that earlier versions wrote (instance-VERSION.tar.gz: board and store of a daemon that ended) are read by the library of this tree:
# every record is what it was (instance-VERSION.dump.gz: `shmetactl dump` of then, without times of reading and commit numbers).
# docs/compatibility.md promises it. A new one is stored with each minor version, and none is ever made anew.
set -uo pipefail
cd "$(dirname "$0")/../.."
tool=$(realpath "${BUILD:-build}/bin/shmetactl")
status=0
stored=0

for archive in tests/golden/instance-*.tar.gz; do
	stored=$((stored + 1))
	version=$(basename "$archive" .tar.gz)
	work=$(mktemp -d /dev/shm/shmeta-golden.XXXXXX)
	mkdir "$work/instance"
	tar -C "$work/instance" --no-same-owner -xzf "$archive"
	"$tool" --dir "$work/instance" dump >"$work/dump" 2>"$work/error" || cat "$work/error"
	sed -E 's/,"(time|writer_state|directory|age_ms|fresh|txn|generation|updated_at_ms|complete)":("[^"]*"|[^,}]*)//g' "$work/dump" >"$work/records"
	if gzip -dc "${archive%.tar.gz}.dump.gz" | diff - "$work/records" | head -n 20 && [ "${PIPESTATUS[1]}" -eq 0 ]; then
		echo "ok - every record of $version is read as it was ($(wc -l <"$work/records") lines)"
	else
		echo "not ok - every record of $version is read as it was"
		status=1
	fi
	rm -rf "$work"
done
[ "$stored" -gt 0 ] || {
	echo "not ok - there is no stored instance"
	status=1
}
exit $status
