#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The manuals agree with the programs: tools/lint/options.sh BUILD
# - every option of the daemon's table is in shmeta.conf(5) with its default, and the page names no other;
# - systemd/shmeta.conf is the sample that the daemon prints, and docs/configuration.md is made from its table;
# - every flag in a program's --help is in its manual, and the manual names no other.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0
differ() { # title file file
	local out
	if ! out=$(diff "$2" "$3"); then
		printf '%s\n' "$1"
		grep '^[<>]' <<<"$out"
		status=1
	fi
}

"$build/bin/shmetad" --print-manual >"$work/printed"
sed -n '/^## Section /,/^# /p' docs/man/shmeta.conf.5.scd | sed '/^# /,$d; /^## Section ttl_override/,/^## /d' >"$work/page"
grep -E '^(## Section|\*[a-z_]+\* = )' "$work/printed" >"$work/options"
grep -E '^(## Section|\*[a-z_]+\* = )' "$work/page" >"$work/listed"
grep -c ' = ' "$work/options" >"$work/count"
if [ "$(cat "$work/count")" -lt 20 ]; then
	echo 'shmetad --print-manual: its options were not recognised'
	status=1
fi
differ 'options: < shmetad --print-manual, > docs/man/shmeta.conf.5.scd' "$work/options" "$work/listed"

"$build/bin/shmetad" --print-sample >"$work/sample"
differ 'sample: < shmetad --print-sample, > systemd/shmeta.conf' "$work/sample" systemd/shmeta.conf

tools/configuration_document.sh "$build" >"$work/document"
differ 'document: < tools/configuration_document.sh, > docs/configuration.md' "$work/document" docs/configuration.md

flags() { # program page; with the help of every verb, for those that have some
	{
		"$build/bin/$1" --help
		for verb in $("$build/bin/$1" --help | sed -n '/^Looking/,/^Options/s/^  \([a-z-]*\( [a-z-]*\)\?\) .*/\1/p'); do
			"$build/bin/$1" help "$verb" 2>/dev/null || true
		done
		echo ' --help --version'
	} | grep -oE '(^|[ ,[])--[a-z][a-z-]+' | tr -d ' ,[' | sort -u >"$work/flags"
	tr -d '\\' <"$2" | grep -oE '\*--[a-z][a-z-]+' | tr -d '*' | sort -u >"$work/named"
	differ "flags: < $1 --help, > $2" "$work/flags" "$work/named"
}
flags shmetad docs/man/shmetad.8.scd
flags shmetactl docs/man/shmetactl.1.scd
flags shmeta-exporter docs/man/shmeta-exporter.8.scd
exit $status
