#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# mandoc finds nothing to complain about in the manual pages that are installed, but for the empty paragraphs that scdoc writes.
set -uo pipefail
cd "$(dirname "$0")/../.."
pages=("${BUILD:-build}"/man/*.[0-9])
if [ "${#pages[@]}" -lt 6 ]; then
	echo "not ok - there are only ${#pages[@]} pages"
	exit 1
fi
status=0
for page in "${pages[@]}"; do
	found=$(mandoc -Tlint -Wwarning "$page" 2>&1 | grep -v 'skipping paragraph macro')
	if [ -z "$found" ]; then
		echo "ok - $(basename "$page")"
	else
		echo "not ok - $(basename "$page")"
		printf '%s\n' "$found"
		status=1
	fi
done
exit $status
