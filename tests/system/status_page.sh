#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The status page in a browser: every panel is drawn, its own policy refuses nothing of it, and what others named is harmless. With
# SCREENSHOTS=DIR it leaves pictures there: well, dark, on a phone, and with the writer dead.
set -uo pipefail
cd "$(dirname "$0")/../.."
build=$(cd "${BUILD:-build}" && pwd)
command -v chromium >/dev/null || {
	echo 'there is no chromium'
	exit 77
}
dir=$(mktemp -d "${SHMETA_TEST_SCRATCH:-/dev/shm}/shmeta-page-XXXXXX")
pids=()
finish() {
	kill "${pids[@]}" 2>/dev/null
	wait 2>/dev/null
	rm -rf "$dir"
}
trap finish EXIT
failed=0
claim() { # name, what was printed instead of nothing
	if [ -z "$2" ]; then echo "ok - $1"; else echo "not ok - $1"; printf '%s\n' "$2"; failed=1; fi
}

# A file's name is text that others choose.
hostile='<img src=x onerror=console.error(document.domain)>.db'
"$build/bin/shmetad" --source "sqlite:$dir/$hostile" --create --dir "$dir/one" >"$dir/log" 2>&1 &
pids+=($!)
writer=$!
port=$((20000 + RANDOM % 20000))
"$build/bin/shmeta-exporter" --dir "$dir/one" --listen "127.0.0.1:$port" --price '0.20 EUR' &
pids+=($!)
for _ in $(seq 200); do
	"$build/bin/shmetactl" --dir "$dir/one" status >/dev/null 2>&1 && (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break
	sleep 0.1
done
browse_at() { # address option...
	local address=$1
	shift
	HOME=$dir timeout 120 chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --disable-extensions \
		--disable-background-networking --disable-component-update --hide-scrollbars --user-data-dir="$dir/profile" \
		--enable-logging=stderr --v=0 --virtual-time-budget=3000 "$@" "$address"
}
browse() { browse_at "http://127.0.0.1:$port/" "$@"; } # option...
if ! browse --dump-dom >"$dir/dom" 2>"$dir/messages" || ! grep -q '<main>' "$dir/dom"; then
	if ! grep -q '<html' "$dir/dom"; then
		echo "chromium does not run here: $(grep -v dbus "$dir/messages" | tail -n 1)"
		exit 77
	fi
	claim 'the page is shown' "$(head -c 400 "$dir/dom")"
fi
claim 'the browser has nothing to complain of' "$(grep CONSOLE "$dir/messages")"
claim 'what others named is text' "$(grep -F '<img' "$dir/dom"; grep -qF '&lt;img src=x' "$dir/dom" || echo 'the name is not shown')"
for id in health answers lookups latency states freshness ages lag queue writes source-latency source-heat readers pins store avoided instance; do
	grep -q "<section class=\"panel[^>]*id=\"$id\"" "$dir/dom" || echo "no panel $id"
done >"$dir/missing"
claim 'every panel is there' "$(cat "$dir/missing")"
claim 'the script ran: the button to pause is shown' "$(grep -o '<button[^>]*hidden[^>]*>' "$dir/dom")"
# The page as a file, without its policy, with axe-core in it.
axe=$(echo "$build"/pypi/lib/python3*/site-packages/axe_playwright_python/axe.min.js)
if [ -f "$axe" ]; then
	python3 - "http://127.0.0.1:$port/" "$axe" >"$dir/axe.html" <<'PYTHON'
import sys, urllib.request
page = urllib.request.urlopen(sys.argv[1]).read().decode()
check = '''axe.run().then(r => {
	const found = document.createElement("pre");
	found.id = "axe";
	found.textContent = r.passes.length + " rules hold\\n" + r.violations.flatMap(v => v.nodes.map(n => v.id + ": " + v.help + ": " + n.html)).join("\\n");
	document.body.replaceChildren(found);
})'''
print(page.replace("</body>", "<script>" + open(sys.argv[2]).read() + "</script><script>" + check + "</script></body>"))
PYTHON
	browse_at "$dir/axe.html" --dump-dom 2>/dev/null | sed -n '/id="axe"/,/<\/pre>/p' >"$dir/axe"
	claim 'axe-core finds nothing that a screen reader or a keyboard cannot use' "$(
		grep -q '[1-9][0-9] rules hold' "$dir/axe" || echo 'it judged nothing'
		sed '1d;/^<\/pre>/d' "$dir/axe"
	)"
else
	echo "# axe-core is not here: $(tail -n 1 "$build/pypi.error" 2>/dev/null)"
fi
claim 'it is no larger than 200 kB' "$([ "$(stat -c %s "$dir/dom")" -lt 200000 ] || stat -c %s "$dir/dom")"

shot() { # name width height option...
	local name=$1 size=$2,$3
	shift 3
	browse --window-size="$size" --screenshot="$dir/$name.png" "$@" >/dev/null 2>&1
	[ "$(stat -c %s "$dir/$name.png" 2>/dev/null || echo 0)" -gt 20000 ] || echo "no picture: $name"
	[ -z "${SCREENSHOTS-}" ] || cp "$dir/$name.png" "$SCREENSHOTS/"
}
claim 'it is drawn on a wall, in the dark and on a phone' "$(
	shot well 1400 1900
	shot dark 1400 1900 --blink-settings=preferredColorScheme=0
	shot phone 390 3600
)"
kill -9 "$writer"
for _ in $(seq 100); do
	"$build/bin/shmetactl" --dir "$dir/one" status 2>/dev/null | grep -q '^writer *dead' && break
	sleep 0.1
done
browse --dump-dom >"$dir/dom" 2>/dev/null
claim 'with the writer dead it says so and what to do' "$(grep -q 'journalctl -u UNIT -e' "$dir/dom" || head -c 600 "$dir/dom")"
claim 'it is drawn with the writer dead' "$(shot dead 1400 1900)"
exit $failed
