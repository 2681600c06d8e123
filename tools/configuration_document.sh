#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# docs/configuration.md, from the daemon's table of options: tools/configuration_document.sh BUILD
set -euo pipefail
cat <<'HEAD'
# Configuration

Every option of `shmetad`, for whoever edits `/etc/shmeta/shmeta.conf`. The page is made from the daemon's table of options
(`tools/configuration_document.sh`). shmeta.conf(5) explains the syntax and has the same options; `shmetad --print-sample` prints a file with
all of them. `shmetactl config check` names every mistake of a file, `shmetactl config show --changed` what the running daemon has otherwise
than by default.

HEAD
"$1/bin/shmetad" --print-manual | sed 's/\\_/_/g' | awk '
function out() {
	if (name == "") return
	if (match(text, / ?Changes at [a-z]+\./)) {
		when = substr(text, RSTART, RLENGTH); sub(/ ?Changes at /, "", when); sub(/\.$/, "", when)
		sub(/ ?Changes at [a-z]+\./, "", text)
	}
	gsub(/\|/, "\\|", text)
	gsub(/\*/, "", text)
	printf "| `%s.%s` | %s | `%s` | %s | %s |\n", section, name, kind, value, when, text
	name = ""
}
/^## Section / {
	out()
	section = $3
	printf "%s## %s\n\n| option | kind | default | changes at | meaning |\n|---|---|---|---|---|\n", sections++ ? "\n" : "", section
	next
}
/^\*[a-z_]+\* = / {
	out()
	name = $1; gsub(/\*/, "", name)
	kind = $0; sub(/^[^=]*= _?/, "", kind); sub(/_? *\(default:.*/, "", kind); gsub(/[_*]/, "", kind)
	value = $0; sub(/.*\(default: /, "", value); sub(/\)$/, "", value)
	text = ""; when = ""
	next
}
/^\t/ { line = $0; sub(/^\t/, "", line); text = text (text == "" ? "" : " ") line }
END { out() }'
