#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Who may include whom. Data runs one way: backends -> writer -> shm <- reader <- tools; base is
# below all of them.
#
# Project headers are written from the root of the tree ("shm/page/board.h"). Below: for each folder the headers it may include, as
# patterns; then the system headers that only some files may include.
set -euo pipefail
cd "$(dirname "$0")/../.."

git ls-files 'include/*.h' '*.c' 'base/*.h' 'shm/*.h' 'backends/*.h' 'writer/*.h' 'reader/*.h' 'tools/*.h' 'tests/*.h' 'bench/*.h' |
	sort -u | while read -r file; do
	[ -e "$file" ] || continue
	sed -n "s|^[[:space:]]*#[[:space:]]*include[[:space:]]*\([\"<][^\">]*[\">]\).*|$file \1|p" "$file"
done | awk '
function allow(folder, pattern) { may[folder] = may[folder] == "" ? pattern : may[folder] "|" pattern }
BEGIN {
	allow("include",  "^$")
	allow("base",     "^(include|base)/")
	allow("shm",      "^(include|base|shm)/")
	allow("backends", "^(include|base|backends)/")
	allow("writer",   "^(include|base|shm|writer)/|^backends/(backend|tokens)\\.h$")
	allow("reader",   "^(include|base|shm|reader)/")
	allow("tools",    "^include/shmeta\\.h$|^base/hex\\.h$|^(tools|bench)/")
	allow("tests",    ".")
	allow("bench",    ".")

	# The verbs that look below the public interface.
	inspection = "^tools/(monitor|exporter)/|^tools/shmetactl/(cmd_(inspect|schema|verify|store|dump|export|readers|status|ls|quarantine|stat|top|hist)|inspect|verify|out)[a-z_]*\\.[ch]$"
	# Comparing the store with its source needs the source; moving a source to another one needs both, and their rows.
	comparison = "^tools/shmetactl/(cmd_(schema|export|import|audit)\\.c|(move_rows|source_uri)\\.[ch]|verify_contents\\.h)$"

	# Policies over numbers: they know neither the store nor the engine.
	pure = "^writer/resident/"

	only["<lmdb.h>"]     = "^(shm/store/[a-z_]*\\.[ch]|tests/.*|bench/.*)$"
	only["<sqlite3.h>"]  = "^(backends/sqlite[a-z_/]*\\.[ch]|tools/demo/.*|tests/.*|bench/.*)$"
	only["<curl/"]       = "^backends/dynamodb/[a-z_]*\\.c$"
	only["<openssl/"]    = "^backends/dynamodb/ddb_sign\\.c$"
	only["<libpq-fe.h>"] = "^(backends/postgres[a-z_/]*\\.[ch]|tests/.*|bench/.*)$"
	only["<systemd/"]    = "^(writer/.*|tools/exporter/scrape_sockets\\.c|tests/.*)$"
	only["<microhttpd.h>"] = "^tools/exporter/http\\.c$"
}
{
	file = $1; header = substr($2, 2, length($2) - 2)
	folder = file; sub(/\/.*/, "", folder)
	if ($2 ~ /^</) {
		for (h in only)
			if (index($2, h) == 1 && file !~ only[h]) { print file ": may not include " $2; bad = 1 }
		next
	}
	if (header !~ /\//) { print file ": write \"" header "\" from the root of the tree"; bad = 1; next }
	if (file ~ pure && header !~ /^(include|base|writer\/resident)\//) {
		print file ": writer/resident may not include " header
		bad = 1
		next
	}
	if (header ~ may[folder]) next
	if (folder == "tools" && header ~ /^(base|shm)\// && file ~ inspection) next
	if (folder == "tools" && header ~ /^backends\/(backend|rows)\.h$/ && file ~ comparison) next
	print file ": " folder " may not include " header
	bad = 1
}
END { exit bad }'
