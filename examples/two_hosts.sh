#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Two hosts, one database: a throwaway PostgreSQL, and two daemons that have only it in common. Changes are made on one host
# through shmeta and with psql beside both, and the time is shown until each host's cache has them; at the end both caches are
# compared with the tables, record by record. Nothing is left behind.
#
#   examples/two_hosts.sh [ROUNDS]        as root or not; needs PostgreSQL's server (Debian: postgresql) and `make`
#
# BUILD: where shmetad and shmetactl were built (build).
set -uo pipefail
cd "$(dirname "$0")/.."
build=${BUILD:-build}
rounds=${1:-20}
shmetad=$build/bin/shmetad shmetactl=$build/bin/shmetactl

fail() {
	echo "two_hosts: $*" >&2
	exit 1
}
[ -x "$shmetad" ] && [ -x "$shmetactl" ] || fail "$shmetad or $shmetactl is missing: run make first"
bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
[ -n "$bin" ] || bin=$(pg_config --bindir 2>/dev/null)
[ -x "$bin/initdb" ] || fail "no PostgreSQL server here (Debian: apt-get install postgresql)"

work=$(mktemp -d /dev/shm/shmeta-two-hosts-XXXXXX) || fail 'no directory in /dev/shm'
pids=()
finish() {
	local i
	trap - EXIT INT TERM
	# The daemons, then the server. SIGINT to a postmaster is its fast shutdown.
	for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
		kill -INT "${pids[i]}" 2>/dev/null
		wait "${pids[i]}" 2>/dev/null
	done
	rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

# PostgreSQL does not run as root.
as=()
owner=$(id -un)
if [ "$(id -u)" -eq 0 ]; then
	id postgres >/dev/null 2>&1 || fail 'no user postgres to run the server as'
	as=(setpriv --reuid postgres --regid postgres --init-groups)
	owner=postgres
	chmod 755 "$work"
fi
mkdir "$work/server" "$work/host-a" "$work/host-b"
[ ${#as[@]} -eq 0 ] || chown postgres "$work/server"

"${as[@]}" "$bin/initdb" -D "$work/server/data" -U "$owner" -A trust -E UTF8 --locale=C --no-sync >"$work/initdb.log" 2>&1 ||
	{ cat "$work/initdb.log" && fail 'initdb failed'; }
"${as[@]}" "$bin/postgres" -D "$work/server/data" -k "$work/server" -c listen_addresses= -c fsync=off >"$work/postgres.log" 2>&1 &
pids+=($!)
sql() {
	"$bin/psql" -h "$work/server" -U "$owner" -d postgres -X -q -A -t -v ON_ERROR_STOP=1 "$@"
}
within() { # seconds sentence command...
	local end=$((SECONDS + $1)) sentence=$2
	shift 2
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || fail "$sentence"
		sleep 0.01
	done
}
within 30 'PostgreSQL does not start' sql -c 'SELECT 1'

source="postgresql:host=$work/server user=$owner dbname=postgres"
start() { # host
	"$shmetad" --dir "$work/host-$1" --source "$source" --create >"$work/host-$1.log" 2>&1 &
	pids+=($!)
}
on() { # host arguments...
	local host=$1
	shift
	"$shmetactl" --dir "$work/host-$host" "$@"
}
serves() {
	on "$1" status --json | grep -q '"healthy": *true'
}
start a
within 30 "the daemon of host a does not serve: $(tail -n 3 "$work/host-a.log" 2>/dev/null)" serves a
start b
within 30 'the daemon of host b does not serve' serves b
echo "PostgreSQL $(sql -c 'SHOW server_version'), host a and host b with a cache each; nothing is shared but the database"

now_us() {
	echo "${EPOCHREALTIME/./}"
}
# Until a host shows it: microseconds since `since`, with the start of as many shmetactl as it took.
shows() { # host since_us pattern command...
	local host=$1 since=$2 pattern=$3 seen end=$((SECONDS + 30))
	shift 3
	until seen=$(on "$host" "$@" 2>/dev/null) && grep -qE -- "$pattern" <<<"$seen"; do
		[ $SECONDS -lt $end ] || fail "host $host does not show '$pattern' in 30 s: $*"
	done
	echo $(($(now_us) - since))
}
# The same on both hosts at once, into $a and $b.
both() { # since_us pattern command...
	shows b "$@" >"$work/b" &
	local other=$!
	shows a "$@" >"$work/a" && wait $other || exit 1
	read -r a <"$work/a"
	read -r b <"$work/b"
}
row() { # what, microseconds of host a, of host b
	awk -v what="$1" -v a="$2" -v b="$3" 'BEGIN { printf "  %-52s %8.1f ms  %8.1f ms\n", what, a / 1000, b / 1000 }'
}
median() {
	sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}

since=$(now_us)
shows a "$since" healthy status --json >"$work/a" || exit 1
row 'to compare with: shmetactl, grep and nothing to wait for' "$(<"$work/a")" "$(<"$work/a")" >"$work/floor"
printf '\n  %-52s %11s  %11s\n' 'visible after' 'host a' 'host b'
cat "$work/floor"

since=$(now_us)
on a topic create orders 4 >/dev/null || fail 'host a cannot create a topic'
both "$since" '"orders"' get topic orders --json
row 'topic created on host a (from before the call)' "$a" "$b"

a_times='' b_times=''
for ((i = 1; i <= rounds; i++)); do
	sql -c "UPDATE partitions SET high_watermark = $((i * 100)) WHERE topic = 'orders' AND partition_id = $((i % 4))" ||
		fail 'psql cannot write'
	both "$(now_us)" "\"high_watermark\": *\"?$((i * 100))\\b" get partition orders $((i % 4)) --json
	a_times+="$a"$'\n' b_times+="$b"$'\n'
done
row "watermark by psql, median of $rounds (from its commit)" "$(median <<<"${a_times%$'\n'}")" "$(median <<<"${b_times%$'\n'}")"

sql -c "INSERT INTO segments(id, topic, partition_id, base_offset, end_offset, record_count, size_bytes, s3_bucket, s3_key, created_at)
	SELECT 'segment-' || p || '-' || i, 'orders', p, i * 10, i * 10 + 9, 10, 1000, 'bucket', 'key/' || p || '/' || i, 1
	FROM generate_series(0, 3) p, generate_series(0, 2499) i" || fail 'psql cannot insert segments'
both "$(now_us)" segment find orders 3 24999
row '10000 segments by psql (from their commit)' "$a" "$b"

on b segments delete-before orders 3 20000 --yes >/dev/null || fail 'host b cannot delete segments'
since=$(now_us)
left() { # host
	on "$1" find orders 3 19999 >/dev/null 2>&1
	[ $? -eq 5 ]
}
within 30 'host b does not see what it deleted itself' left b
b=$(($(now_us) - since))
within 30 'host a does not see what host b deleted' left a
row '2000 segments deleted on host b (from its answer)' "$(($(now_us) - since))" "$b"

sql -c "INSERT INTO topics(name, partition_count, created_at, updated_at, config) VALUES ('invoices', 1, 1, 1, '{}');
	INSERT INTO partitions(topic, partition_id, high_watermark, created_at, updated_at) VALUES ('invoices', 0, 7, 1, 1)" ||
	fail 'psql cannot create a topic'
both "$(now_us)" '"invoices"' get topic invoices --json
row 'topic created by psql (from its commit)' "$a" "$b"

sql -c "DELETE FROM topics WHERE name = 'invoices'" || fail 'psql cannot delete'
since=$(now_us)
gone() { # host
	on "$1" get topic invoices >/dev/null 2>&1
	[ $? -eq 5 ]
}
within 30 'host b shows a topic that psql deleted' gone b
b=$(($(now_us) - since))
within 30 'host a shows a topic that psql deleted' gone a
row 'topic deleted by psql (from its commit)' "$(($(now_us) - since))" "$b"

echo
status=0
for host in a b; do
	said=$(on "$host" verify 2>&1) || status=1
	printf '  host %s: %s\n' "$host" "$(tail -n 1 <<<"$said")"
	[ $status -eq 0 ] || printf '%s\n' "$said"
done
[ $status -eq 0 ] || fail 'a cache differs from the tables'
echo '  both caches are equal to the tables'
