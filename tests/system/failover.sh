#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A PostgreSQL that fails over to its standby, which lacks the last commits: the daemon goes to the new primary by itself, and the
# cache becomes what that one has, without what was lost. Reads go on all the time.
set -uo pipefail
cd "$(dirname "$0")/../.."
build=${BUILD:-build}
bin=$(find /usr/lib/postgresql/*/bin -maxdepth 0 2>/dev/null | sort -V | tail -n 1)
if [ ! -x "$bin/initdb" ]; then
	echo "no PostgreSQL server here"
	exit 77
fi
work=$(mktemp -d /dev/shm/shmeta-failover-XXXXXX)
declare -A pids=()
finish() {
	local who
	for who in reader daemon standby primary; do
		[ -n "${pids[$who]-}" ] || continue
		kill -INT "${pids[$who]}" 2>/dev/null
		wait "${pids[$who]}" 2>/dev/null
	done
	rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM
status=0
claim() { # result sentence
	if [ "$1" -eq 0 ]; then
		echo "ok - $2"
	else
		tail -n 20 "$work"/*.log
		"$build/bin/shmetactl" --dir "$work/cache" status
		echo "not ok - $2"
		status=1
		exit 1
	fi
}

as=()
owner=$(id -un)
if [ "$(id -u)" -eq 0 ]; then
	as=(setpriv --reuid postgres --regid postgres --init-groups)
	owner=postgres
	chmod 755 "$work"
fi
mkdir "$work/primary" "$work/standby" "$work/cache"
[ ${#as[@]} -eq 0 ] || chown postgres "$work/primary" "$work/standby"

serve() { # which
	"${as[@]}" "$bin/postgres" -D "$work/$1/data" -k "$work/$1" -c listen_addresses= -c fsync=off >>"$work/$1.log" 2>&1 &
	pids[$1]=$!
}
sql() { # which statement
	"$bin/psql" -h "$work/$1" -U "$owner" -d postgres -X -q -A -t -v ON_ERROR_STOP=1 -c "$2"
}
within() { # seconds command...
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.05
	done
}
ctl() {
	"$build/bin/shmetactl" --dir "$work/cache" "$@"
}
lacks() { # topic
	ctl get topic "$1" >/dev/null 2>&1
	[ $? -eq 5 ]
}
says() { # answer statement, of the standby
	[ "$(sql standby "$2")" = "$1" ]
}
healthy() {
	ctl status
}
topic() { # name
	echo "INSERT INTO topics(name, partition_count, created_at, updated_at, config) VALUES ('$1', 1, 1, 1, '{}')"
}

"${as[@]}" "$bin/initdb" -D "$work/primary/data" -U "$owner" -A trust -E UTF8 --locale=C --no-sync >"$work/initdb.log" 2>&1
claim $? 'a primary is made'
serve primary
within 30 sql primary 'SELECT 1' &&
	"${as[@]}" "$bin/pg_basebackup" -h "$work/primary" -U "$owner" -D "$work/standby/data" -R -c fast --no-sync >"$work/backup.log" 2>&1
claim $? 'and a standby of it'
serve standby
within 30 sql standby 'SELECT 1'
claim $? 'which runs'

printf 'source { timeout_ms = 2s }\nretry { min_ms = 50ms max_ms = 200ms }\nfeed { reconcile_s = 0 }\n' >"$work/shmeta.conf"
# The standby first: it must be passed over while it is one.
source="postgresql:host=$work/standby,$work/primary port=5432,5432 user=$owner dbname=postgres"
"$build/bin/shmetad" --config "$work/shmeta.conf" --dir "$work/cache" --source "$source" --create >"$work/daemon.log" 2>&1 &
pids[daemon]=$!
within 30 healthy && ctl topic create kept 2 >/dev/null 2>&1 && within 10 ctl get topic kept
claim $? 'the daemon serves and writes to the primary, though the standby is named first'

(
	trap 'exit 0' INT
	while :; do
		"$build/bin/shmetactl" --dir "$work/cache" get topic kept >/dev/null 2>&1 || echo failed
		echo read
	done
) >"$work/reads" &
pids[reader]=$!

within 30 says 1 "SELECT count(*) FROM topics WHERE name = 'kept'" && sql standby "ALTER SYSTEM SET primary_conninfo = ''" &&
	sql standby 'SELECT pg_reload_conf()' >/dev/null && within 30 says 0 'SELECT count(*) FROM pg_stat_wal_receiver' &&
	sql primary "$(topic lost)" && within 10 ctl get topic lost
claim $? 'a commit that the standby never gets is in the cache'

kill -QUIT "${pids[primary]}"
wait "${pids[primary]}" 2>/dev/null
unset 'pids[primary]'
away() {
	ctl status --json >"$work/status.json"
	grep -q '"away_since": "' "$work/status.json"
}
within 20 away
ctl status >"$work/status.log"
grep -qE '^source .*: away since 20[0-9-]+T[0-9:]+Z: .*session is read-only.*primary' "$work/status.log"
claim $? 'the primary dies: status says since when, and what is wrong with each of the two'
within 5 lacks lost
[ $? -ne 0 ] && ctl get topic lost >/dev/null
claim $? 'what it knew is still answered'

"${as[@]}" "$bin/pg_ctl" promote -D "$work/standby/data" -w >>"$work/standby.log" 2>&1 && within 30 healthy
claim $? 'the standby is promoted, and the daemon finds it'
within 30 lacks lost
claim $? 'what was lost with the primary leaves the cache'
sql standby "$(topic after)" && within 10 ctl get topic after
claim $? 'changes on the new primary are followed'
ctl topic create written 1 >/dev/null 2>&1 && [ "$(sql standby "SELECT count(*) FROM topics WHERE name = 'written'")" = 1 ]
claim $? 'writes go to the new primary'
ctl verify >"$work/verify.log" 2>&1
claim $? 'the cache is equal to its tables'
kill -INT "${pids[reader]}"
wait "${pids[reader]}" 2>/dev/null
unset 'pids[reader]'
[ "$(grep -c read "$work/reads")" -gt 10 ] && ! grep -q failed "$work/reads"
claim $? 'no read failed meanwhile'
exit $status
