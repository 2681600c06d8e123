#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The commands of docs/operations.md, block by block in their order, against a daemon on a database of its own; each verb that the page
# names in a table is one that there is.
set -uo pipefail
cd "$(dirname "$0")/../.."
page=docs/operations.md
bin=$(cd "${BUILD:-build}" && pwd)/bin
work=$(mktemp -d /dev/shm/shmeta-operations-XXXXXX)
daemon=
finish() {
	[ -z "$daemon" ] || kill "$daemon" 2>/dev/null
	wait 2>/dev/null
	rm -rf "$work"
}
trap finish EXIT
failed=0
claim() { # name, what was printed instead of nothing
	if [ -z "$2" ]; then echo "ok - $1"; else echo "not ok - $1"; printf '%s\n' "$2"; failed=1; fi
}

mkdir "$work/bin" "$work/blocks" "$work/here"
printf '#!/bin/sh\nexec "%s/shmetactl" --dir "%s/instance" "$@"\n' "$bin" "$work" >"$work/bin/shmetactl"
chmod 755 "$work/bin/shmetactl"
touch "$work/shmeta.conf"
awk -v dir="$work/blocks" '/^```sh$/ { n++; file = sprintf("%s/%02d", dir, n); next } /^```/ { file = ""; next } file != "" { print > file }' "$page"
claim 'the page has many blocks of commands' "$([ "$(ls "$work/blocks" | wc -l)" -ge 12 ] || ls "$work/blocks")"

"$bin/shmetad" --config "$work/shmeta.conf" --dir "$work/instance" --create --source "sqlite:$work/source.db" >"$work/log" 2>&1 &
daemon=$!
for _ in $(seq 200); do
	"$work/bin/shmetactl" status >/dev/null 2>&1 && break
	sleep 0.1
done
for block in "$work"/blocks/*; do
	# events -f waits for what comes next.
	if grep -q 'events -f' "$block"; then
		(for _ in 1 2 3 4 5 6 7 8; do sleep 0.5; "$work/bin/shmetactl" log-level info >/dev/null 2>&1; done) &
	fi
	out=$(cd "$work/here" && PATH="$work/bin:$PATH" DB="$work/source.db" timeout 60 bash -e "$block" 2>&1) && out= || out="exit $?: $(cat "$block")
$out"
	claim "block $(basename "$block"): $(head -n 1 "$block")" "$out"
done

"$bin/shmetactl" help --json | python3 -c '
import json, re, sys
verbs = {v["name"] for v in json.load(sys.stdin)["verbs"]}
first = {v.split()[0] for v in verbs}
flags = set()
page = open("docs/operations.md").read()
bad = []
for part in page.split("## By symptom")[1].split("\n"):
    cells = part.split("|")
    if len(cells) < 4 or set(cells[1].strip()) <= {"-"}:
        continue
    named = cells[2] if "what you see" in page.split("## Where other")[0] and part in page.split("## Where other")[0] else cells[2]
    for code in re.findall(r"`([a-z][a-z -]*)[^`]*`", named):
        word = code.split()[0]
        if word not in first and not word.startswith(("shmeta", "journalctl", "control", "refresh")):
            bad.append(word)
print("\n".join(sorted(set(bad))), end="")
' >"$work/bad"
claim 'every verb in its tables is one that there is' "$(cat "$work/bad")"
exit $failed
