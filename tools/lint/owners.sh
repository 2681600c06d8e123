#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Who may look into a part of the engine. struct sync (writer/engine/engine.h) holds the structure of each of its parts; only the part's
# own files name what is in it. All others call the functions of the part's header, which get the part as a whole.
set -euo pipefail
cd "$(dirname "$0")/../.."

git ls-files -co --exclude-standard 'writer/*.c' 'writer/*.h' | sort -u | while read -r file; do
	[ ! -e "$file" ] || grep -nE '\bs->[a-z_]+\.' "$file" | sed "s|^|$file:|" || true
done | awk '
function own(part, files) { owner[part] = files }
BEGIN {
	own("clock", "engine/engine_clock")
	own("wake", "engine/wake")
	own("thread", "engine/thread")
	own("next_options", "engine/reconfigure")
	own("session", "engine/session")
	own("pause", "engine/pause")
	own("explain", "keys/explain")
	own("schedule", "engine/schedule")
	own("stamps", "engine/stamps")
	own("health", "engine/source_health")
	own("store_health", "engine/store_health")
	own("measured", "engine/measured")
	own("show", "engine/show")
	own("quarantine_log", "engine/quarantine_log")
	own("failing", "engine/failing")
	own("generations", "load/generation")
	own("accept", "load/accept")
	own("saved_feed", "load/saved_feed")
	own("shrink", "load/shrink")
	own("retime", "engine/retime")
	own("query_budget", "keys/query_budget")
	own("expiry", "keys/expiry(_ahead)?")
	own("batch", "keys/batch")
}
{
	file = $0; sub(/:.*/, "", file)
	place = $0; sub(/^[^:]*:/, "", place); sub(/:.*/, "", place)
	text = $0; sub(/^[^:]*:[^:]*:/, "", text)
	while (match(text, /[^a-zA-Z0-9_]s->[a-z_]+\./)) {
		part = substr(text, RSTART + 4, RLENGTH - 5)
		text = substr(text, RSTART + RLENGTH)
		if (!(part in owner) || file ~ "^writer/" owner[part] "\\.[ch]$" || file == "writer/engine/engine.h") continue
		print file ":" place ": looks into s->" part ", which is of writer/" owner[part] ".c"
		bad = 1
	}
}
END { exit bad }'
