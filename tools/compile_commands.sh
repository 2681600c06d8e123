#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# From the commands that make would run, on standard input, to compile_commands.json, on standard output. Called by
# `make compile_commands.json`.
set -euo pipefail
awk -v dir="$PWD" '
/ -c -o [^ ]+\.o [^ ]+\.c$/ {
	command = $0
	gsub(/\\/, "\\\\", command)
	gsub(/"/, "\\\"", command)
	gsub(/\t/, " ", command)
	printf "%s  {\"directory\": \"%s\", \"file\": \"%s\", \"output\": \"%s\", \"command\": \"%s\"}", n++ ? ",\n" : "[\n", dir, $NF, $(NF - 1), command
}
END { print n ? "\n]" : "[]" }'
