#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What tests/requirements.txt names, in a virtual environment of Debian's Python: BUILD/pypi. It is made anew when the list changed.
# Where the index cannot be reached, tests that need it are skipped with that reason: BUILD/pypi.error.
set -uo pipefail
build=$1
list=$(dirname "$0")/requirements.txt
cmp -s "$list" "$build/pypi/requirements.txt" && exit 0
rm -rf "$build/pypi"
mkdir -p "$build"
if python3 -m venv "$build/pypi" >"$build/pypi.error" 2>&1 &&
	"$build/pypi/bin/pip" install -q --disable-pip-version-check --no-deps --require-hashes -r "$list" >>"$build/pypi.error" 2>&1; then
	cp "$list" "$build/pypi/"
	rm -f "$build/pypi.error"
	exit 0
fi
rm -rf "$build/pypi"
echo "The tools of $list could not be installed, and what needs them is skipped: $(tail -n 1 "$build/pypi.error")" >&2
