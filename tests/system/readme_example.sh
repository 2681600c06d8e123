#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What `make install` puts in place is complete, and the README's example compiles against it as it is shown, shared and static,
# and finds a segment of a real database. BUILD, CC and SAN come from the runner.
set -euo pipefail
cd "$(dirname "$0")/../.."
unset MAKEFLAGS MAKELEVEL MFLAGS
build=${BUILD:-build}
cc=${CC:-gcc}
work=$(mktemp -d /tmp/shmeta-install.XXXXXX)
daemon=
finish() {
	for pid in $(cat "$work/private/jobs" "$work/private/pid" 2>/dev/null); do
		kill "$pid" 2>/dev/null || true
	done
	if [ -n "$daemon" ]; then
		kill "$daemon" 2>/dev/null || true
		wait "$daemon" 2>/dev/null || true
	fi
	rm -rf "$work"
}
trap finish EXIT
claim() { # sentence command...
	local sentence=$1
	shift
	if "$@" >"$work/log" 2>&1; then
		echo "ok - $sentence"
	else
		cat "$work/log"
		echo "not ok - $sentence"
		exit 1
	fi
}

root=$work/root
install_all() {
	make --no-print-directory install DESTDIR="$root" PREFIX=/usr CC="$cc" SAN="${SAN-}" &&
		for file in bin/shmetactl sbin/shmetad lib/libshmeta.so.0 lib/libshmeta.so lib/libshmeta.a include/shmeta.h \
			lib/pkgconfig/shmeta.pc share/man/man3/libshmeta.3 share/man/man8/shmetad.8 share/man/man1/shmetactl.1 \
			share/bash-completion/completions/shmetactl share/zsh/site-functions/_shmetactl \
			share/man/man5/shmeta.conf.5 lib/systemd/system/shmetad.service \
			lib/systemd/system/shmetad@.socket lib/systemd/system/run-shmeta.mount lib/systemd/catalog/shmeta.catalog \
			share/shmeta/sqlite-only.conf lib/sysusers.d/shmeta.conf \
			lib/tmpfiles.d/shmeta.conf; do
			[ -s "$root/usr/$file" ] || {
				echo "missing: $file"
				return 1
			}
		done &&
		! grep -rIl -e '@PREFIX@' -e '@SBINDIR@' -e '@BINDIR@' "$root" &&
		! grep -rIlF "$root" "$root"
}
claim 'make install puts every file in place' install_all

sed -n '/^```c$/,/^```$/p' README.md | sed '/^```/d' >"$work/example.c"
export PKG_CONFIG_PATH=$root/usr/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$root
sanitize=${SAN:+-fsanitize=$SAN}
shared() {
	# shellcheck disable=SC2046
	$cc -Wall -Wextra -Werror $sanitize -o "$work/shared" "$work/example.c" $(pkg-config --cflags --libs shmeta)
}
static() {
	# shellcheck disable=SC2046
	$cc -Wall -Wextra -Werror $sanitize -o "$work/static" "$work/example.c" $(pkg-config --cflags shmeta) \
		"$root/usr/lib/libshmeta.a" $(pkg-config --libs --static shmeta | sed 's/-lshmeta//')
}
claim "the README's example compiles as shown, with the flags of pkg-config" shared
claim 'it links with the static library' static
same_in_manual() {
	sed -n '/^# EXAMPLE/,/^# FILES/p' docs/man/libshmeta.3.scd | sed -n '/^```$/,/^```$/p' | sed '/^```/d; s/\\\\/\\/g' |
		diff "$work/example.c" -
}
claim 'libshmeta(3) shows the same example' same_in_manual

examples() {
	local example
	for example in write event_loop cross_partition_writer fetch_loop second_level_cache compactor leader pool; do
		# shellcheck disable=SC2046
		$cc -Wall -Wextra -Werror $sanitize -o "$work/$example" "examples/$example.c" $(pkg-config --cflags --libs shmeta) ||
			return 1
	done
}
claim 'the examples of writing compile against what is installed' examples
# Each block of the section in a function of its own.
snippets() {
	{
		printf '#include <poll.h>\n#include <shmeta.h>\n#include <stdio.h>\n'
		echo 'extern struct shmeta *instance; extern struct shmeta_reader *reader; extern struct shmeta_client *client;'
		echo 'extern struct shmeta_op op; extern struct shmeta_token token; extern shmeta_done_fn done;'
		echo 'void again_later(struct shmeta_op *); void begin(void); void cut_off(uint64_t epoch, uint64_t offset);'
		echo 'extern uint64_t my_last_epoch; extern const struct shmeta_call_event *event;'
		sed -n '/^# WRITING/,/^# RETURN/p' docs/man/libshmeta.3.scd |
			awk '/^```/ { inside = !inside; if (inside) printf "void snippet_%d(void);\nvoid snippet_%d(void) {\n", ++n, n; else print "}"; next }
				inside { gsub(/\\\\/, "\\"); print }'
	} >"$work/snippets.c"
	[ "$(grep -c '^void snippet_[0-9]*(void) {' "$work/snippets.c")" -ge 6 ] || return 1
	# shellcheck disable=SC2046
	$cc -Wall -Wextra -Werror -c -o "$work/snippets.o" "$work/snippets.c" $(pkg-config --cflags shmeta)
}
claim 'the snippets of libshmeta(3) on writing compile' snippets

"$root/usr/sbin/shmetad" --source "sqlite:$work/metadata.db" --create --dir "$work/instance" >"$work/daemon.log" 2>&1 &
daemon=$!
answered() { # expected command...: until the command prints it; the daemon follows the file by itself
	local expected=$1
	shift
	for _ in $(seq 1 300); do
		out=$("$@" 2>&1) || true
		case $out in *"$expected"*) return 0 ;; esac
		kill -0 "$daemon" || break
		sleep 0.1
	done
	echo "instead of '$expected': $out"
	cat "$work/daemon.log"
	return 1
}
serving() {
	answered serving "$root/usr/bin/shmetactl" --dir "$work/instance" status
}
claim 'the installed daemon serves a new database' serving
sqlite3 "$work/metadata.db" <<'SQL'
.timeout 5000
INSERT INTO topics (name, partition_count, retention_ms, created_at, updated_at, config) VALUES ('orders', 1, NULL, 1, 1, '{}');
INSERT INTO partitions (topic, partition_id, high_watermark, created_at, updated_at) VALUES ('orders', 0, 20000, 1, 1);
INSERT INTO segments (id, topic, partition_id, base_offset, end_offset, record_count, size_bytes, s3_bucket, s3_key, created_at)
VALUES ('orders-0-10000', 'orders', 0, 10000, 19999, 10000, 1, 'bucket', 'data/orders/0/00000000000000010000.seg', 1);
SQL
export LD_LIBRARY_PATH=$root/usr/lib
answered 10000 "$root/usr/bin/shmetactl" --dir "$work/instance" find orders 0 15000 # the daemon follows the file
claim 'the shared example writes a segment' answered 'added' "$work/shared" "$work/instance"
claim 'the static example is told that it is there already, and finds both' answered 'base 20000, ' "$work/static" "$work/instance"
grep -q 'base 10000, ' <<<"$out" || claim 'both' false
claim 'what the example wrote is in the database' test "$(sqlite3 -cmd '.timeout 5000' "$work/metadata.db" \
	"SELECT high_watermark || ' ' || (SELECT count(*) FROM segments WHERE topic = 'orders') FROM partitions WHERE topic = 'orders'")" = '30000 2'
claim "the README's shmetactl line finds it" answered 10000 "$root/usr/bin/shmetactl" --dir "$work/instance" find orders 0 15000

claim 'the example that writes does, and says which commit shows it' answered 'shown by commit ' "$work/write" "$work/instance"
claim 'the example with a poll loop commits all its offsets' answered '100 committed, 0 failed' "$work/event_loop" "$work/instance"
claim 'what the examples wrote is in the database' test "$(sqlite3 "$work/metadata.db" \
	"SELECT count(*) FROM segments WHERE topic = 'written'; SELECT count(*) FROM consumer_offsets WHERE topic = 'written'" | tr '\n' ' ')" = '1 100 '

# It reads what is there, sleeps at the end of the log, and is woken by what comes.
fetches() {
	"$work/fetch_loop" "$work/instance" written 0 0 2000 >"$work/fetched" 2>&1 &
	local loop=$!
	for _ in $(seq 1 300); do
		grep -q 'bytes 0-65535, 1 segments' "$work/fetched" && break
		sleep 0.1
	done
	sqlite3 -cmd '.timeout 5000' "$work/metadata.db" "INSERT INTO segments
		(id, topic, partition_id, base_offset, end_offset, record_count, size_bytes, s3_bucket, s3_key, created_at)
		VALUES ('written-0-1000', 'written', 0, 1000, 1999, 1000, 10, 'bucket', 'more', 1);
		UPDATE partitions SET high_watermark = 2000 WHERE topic = 'written'"
	wait "$loop" && [ "$(cat "$work/fetched")" = 'GET bucket/data/written/0/00000000000000000000.seg bytes 0-65535, 1 segments
GET bucket/more bytes 0-9, 1 segments
up to offset 2000' ] || {
		cat "$work/fetched"
		return 1
	}
}
# Its workers look up while the wait is not submitted yet; it ends by a commit that comes behind them.
pools() {
	"$work/pool" "$work/instance" orders 0 >"$work/pooled" 2>&1 &
	local pool=$!
	for _ in $(seq 1 300); do
		grep -q lookups "$work/pooled" && break
		sleep 0.1
	done
	sqlite3 "$work/metadata.db" ".timeout 5000" "UPDATE partitions SET high_watermark = high_watermark + 5 WHERE topic = 'orders'"
	wait "$pool" && grep -qx '4000 lookups by 4 threads with 2 readers, 0 failed' "$work/pooled" &&
		grep -qE '^grown from [0-9]+ to [0-9]+$' "$work/pooled"
}
claim 'tasks share a pool of readers while an event loop waits for growth' pools
claim 'the fetch loop plans, waits at the end and goes on' fetches

# While the database changes, and over a kill of the daemon, after which the store and its journal go on.
caches() {
	"$work/second_level_cache" --check "$work/instance" written 12 >"$work/cached" 2>&1 &
	local cache=$!
	for i in $(seq 1 6); do
		sqlite3 -cmd '.timeout 5000' "$work/metadata.db" \
			"UPDATE partitions SET high_watermark = $((2000 + i)) WHERE topic = 'written' AND partition_id = 0"
		sleep 0.3
	done
	kill -9 "$daemon"
	wait "$daemon" || true
	"$root/usr/sbin/shmetad" --source "sqlite:$work/metadata.db" --create --dir "$work/instance" >>"$work/daemon.log" 2>&1 &
	daemon=$!
	serving && wait "$cache" && grep -qE '^equal to the store: [0-9]+ lines made, [0-9]{3} used again, emptied 1 times$' "$work/cached" || {
		cat "$work/cached"
		return 1
	}
}
claim 'a cache that follows the journal stays equal to the store, also over a kill of the daemon' caches

# A thousand partitions, tiny batches, and a window that does not matter: what is put is what is registered, byte for byte.
pathological() {
	"$work/cross_partition_writer" topic=tiny partitions=1000 batches=4 records=3 window_ms=10000 "$work/instance" \
		"$work/objects" >"$work/saved" &&
		cat "$work/saved" && grep -q ' 12000 records, .* 0 slices refused$' "$work/saved" &&
		awk '/of the PUTs saved/ { exit !($1 >= 50) } END { if (!NR) exit 1 }' "$work/saved"
}
claim 'the cross-partition example saves half of the PUTs and more' pathological
said=$(tail -n 1 "$work/saved")
sql() {
	sqlite3 -cmd '.timeout 5000' "$work/metadata.db" "$1"
}
slices() {
	local bucket key position size partition base end expected got
	[ "$(sql "SELECT count(DISTINCT partition_id) || ' ' || sum(record_count) FROM segments WHERE topic = 'tiny'")" = '1000 12000' ] || return 1
	[ "$(sql "SELECT min(high_watermark) || ' ' || max(high_watermark) FROM partitions WHERE topic = 'tiny'")" = '12 12' ] || return 1
	[ "$(sql 'SELECT count(*) FROM shmeta_objects')" = "$(find "$work/objects" -type f | wc -l)" ] || return 1
	sql "SELECT s3_bucket, s3_key, coalesce(position, 0), size_bytes, partition_id, s.base_offset, end_offset FROM segments s
		JOIN shmeta_slices l USING (topic, partition_id, base_offset) WHERE topic = 'tiny'
		AND (partition_id IN (0, 399, 400, 999) OR partition_id % 97 = 5)" >"$work/slices"
	[ "$(wc -l <"$work/slices")" -ge 14 ] || return 1
	while IFS='|' read -r bucket key position size partition base end; do
		expected=$(seq -f "tiny/$partition/%.0f" "$base" "$end")
		got=$(tail -c "+$((position + 1))" "$work/objects/$bucket/$key" | head -c "$size")
		[ "$got" = "$expected" ] || {
			printf 'partition %s, bytes %s + %s of %s: %s\n' "$partition" "$position" "$size" "$key" "$got"
			return 1
		}
	done <"$work/slices"
}
claim "its slices lie where their segments say ($said)" slices
claim 'its objects are listed, none of them deletable' answered '"count":0' "$root/usr/bin/shmetactl" --dir "$work/instance" --json objects \
	--deletable
windows() {
	"$work/cross_partition_writer" topic=paced partitions=50 batches=20 pause_us=300 window_ms=50 "$work/instance" "$work/objects" \
		>"$work/saved" && cat "$work/saved" && awk '/of the PUTs saved/ { exit !($6 >= 3 && $1 >= 50) }' "$work/saved"
}
claim 'an object is closed when its window is over' windows
again() {
	"$work/cross_partition_writer" topic=tiny partitions=1000 batches=1 records=1 "$work/instance" "$work/objects" &&
		[ "$(sql "SELECT min(high_watermark) || ' ' || max(high_watermark) FROM partitions WHERE topic = 'tiny'")" = '13 13' ]
}
claim 'a second run goes on where the first one ended' again

# The first one is stopped for longer than its lease; the second takes over, and what the first sends then is refused.
says() { # file line
	for _ in $(seq 1 300); do
		! grep -q "$2" "$1" || return 0
		sleep 0.1
	done
	cat "$1"
	return 1
}
leads() {
	local first second gaps ok
	"$root/usr/bin/shmetactl" --dir "$work/instance" topic create led 1 || return 1
	"$work/leader" "$work/instance" led 0 first 100000 500 >"$work/first" 2>&1 &
	first=$!
	says "$work/first" 'first leads at epoch 1' && sleep 0.3 && kill -STOP "$first"
	"$work/leader" "$work/instance" led 0 second 100000 500 >"$work/second" 2>&1 &
	second=$!
	says "$work/second" 'second leads at epoch 2' && kill -CONT "$first" && says "$work/first" 'first leads no more'
	ok=$?
	kill -CONT "$first"
	kill "$second" "$first"
	wait "$second" "$first"
	# Nobody wrote over the other: segments follow each other without a gap.
	gaps="SELECT base_offset - lag(end_offset, 1, -1) OVER (ORDER BY base_offset) AS gap FROM segments WHERE topic = 'led'"
	[ "$ok" = 0 ] && [ "$(sql "SELECT count(*) > 2, sum(gap <> 1) FROM ($gaps)")" = '1|0' ]
}
claim 'a leader that was stopped for longer than its lease is fenced, and its successor goes on where it ended' leads

# Partition 7 of the paced topic: what its segments hold, before and after, is the same to the byte.
content() {
	local bucket key position size
	sql "SELECT s3_bucket, s3_key, coalesce(position, 0), size_bytes FROM segments s LEFT JOIN shmeta_slices l
		USING (topic, partition_id, base_offset) WHERE topic = 'paced' AND partition_id = 7 ORDER BY s.base_offset" |
		while IFS='|' read -r bucket key position size; do
			tail -c "+$((position + 1))" "$work/objects/$bucket/$key" | head -c "$size"
		done
}
compacts() {
	local before
	before=$(sql "SELECT count(*) FROM segments WHERE topic = 'paced' AND partition_id = 7")
	content >"$work/before"
	[ "$before" -ge 3 ] && [ -s "$work/before" ] &&
		"$work/compactor" "$work/instance" "$work/objects" paced 7 1000000 3 >"$work/compacted" &&
		[ "$(tail -n 1 "$work/compacted")" = "$before segments became 1" ] &&
		[ "$(sql "SELECT count(*) || ' ' || max(s3_key LIKE 'compacted-paced-7-%') FROM segments WHERE topic = 'paced'
			AND partition_id = 7")" = '1 1' ] && content | cmp - "$work/before" &&
		[ "$("$work/compactor" "$work/instance" "$work/objects" paced 7 1000000 3)" = '0 segments became 0' ]
}
claim 'the compactor makes many segments one, byte for byte' compacts
# Before the object of the one gets its name, another one does the same partition.
conflicts() {
	local before
	cat >"$work/raced.c" <<-'C'
		#include <stdlib.h>
		int __real_rename(const char *from, const char *to);
		int __wrap_rename(const char *from, const char *to);
		int __wrap_rename(const char *from, const char *to)
		{
			static int raced;

			if (!raced++ && system(getenv("RACE")) != 0)
				return -1;
			return __real_rename(from, to);
		}
	C
	# shellcheck disable=SC2046
	$cc $sanitize -Wl,--wrap=rename -o "$work/raced" examples/compactor.c "$work/raced.c" $(pkg-config --cflags --libs shmeta) || return 1
	before=$(sql "SELECT count(*) FROM segments WHERE topic = 'paced' AND partition_id = 6")
	[ "$before" -ge 3 ] && RACE="'$work/compactor' '$work/instance' '$work/objects' paced 6 1000000 >'$work/faster'" \
		"$work/raced" "$work/instance" "$work/objects" paced 6 1000000 >"$work/slower" &&
		[ "$(tail -n 1 "$work/faster") $(tail -n 1 "$work/slower")" = "$before segments became 1 0 segments became 0" ] &&
		[ "$(find "$work/objects" -name 'compacted-paced-6-*' -printf '%f ')" = \
			"$(sql "SELECT s3_key FROM segments WHERE topic = 'paced' AND partition_id = 6") " ]
}
claim 'a compactor that was slower than another one looks again and leaves nothing behind' conflicts
# The operator's verb: the segment that is there goes, a shorter one comes; a former epoch is refused.
replaces() {
	local fields="'kind', 'segment', 'tenant', '00000000-0000-0000-0000-000000000000', 'topic', topic, 'partition_id', partition_id,
		'base_offset', base_offset, 'record_count', record_count, 'size_bytes', size_bytes, 'id', id, 's3_bucket', s3_bucket,
		'position', 0, 'created_at_ms', created_at, 'min_timestamp_ms', 0, 'max_timestamp_ms', 0"
	sql "SELECT '- ' || json_object($fields, 'end_offset', end_offset, 's3_key', s3_key) FROM segments
		WHERE topic = 'paced' AND partition_id = 7 UNION ALL
		SELECT '+ ' || json_object($fields, 'end_offset', end_offset - 1, 's3_key', 'cut') FROM segments
		WHERE topic = 'paced' AND partition_id = 7" >"$work/changes"
	! "$root/usr/bin/shmetactl" --dir "$work/instance" segments replace paced 7 "$work/changes" 2 --yes 2>"$work/refused" &&
		grep -q "compaction epoch 2: the partition's highest is 3" "$work/refused" &&
		"$root/usr/bin/shmetactl" --dir "$work/instance" segments replace paced 7 "$work/changes" 4 --yes | grep -q '^replaced  *1$' &&
		[ "$(sql "SELECT s3_key FROM segments WHERE topic = 'paced' AND partition_id = 7")" = cut ]
}
claim 'shmetactl replaces segments' replaces

kill "$daemon"
wait "$daemon" || true
daemon=

# The commands of README and docs/install.md, block by block as they stand, with the system's paths and root's tools replaced.
here=$PWD
private=$work/private
mkdir -p "$private/bin" "$private/shm" "$private/run/shmeta" "$private/etc" "$private/var/lib" "$private/home"
as() { # name: a program of that name that stands for root's
	cat >"$private/bin/$1"
	chmod 755 "$private/bin/$1"
}
as sudo <<<'exec "$@"'
as make <<SH
[ "\$#" -eq 0 ] && exit 0 # it was built
PATH=/usr/bin:/bin exec /usr/bin/make -C "$here" --no-print-directory "\$@" DESTDIR="$root" CC="$cc" SAN="${SAN-}"
SH
# A library with a sanitizer needs programs with it.
as cc <<<"exec $cc $sanitize \"\$@\""
as systemd-sysusers <<<"test -s '$root/usr/lib/sysusers.d/shmeta.conf'"
as systemd-tmpfiles <<<"test \"\$1\" = --create && test -s '$root/usr/lib/tmpfiles.d/shmeta.conf'"
as usermod <<<'[ "$1 $2 $3" = "-aG shmeta,shmeta-read streamhouse" ]'
as chown <<<'[ "$1" = shmeta: ] && test -e "$2"'
# install(1) without owners
as install <<'SH'
while getopts do:g:m: flag; do
	case $flag in d) d=-d ;; m) m=$OPTARG ;; *) ;; esac
done
shift $((OPTIND - 1))
exec /usr/bin/install ${d-} -m "$m" "$@"
SH
as systemctl <<SH
test -s "$root/usr/lib/systemd/system/shmetad.service" || exit 1
begin() {
	"$root/usr/sbin/shmetad" --config "$private/etc/shmeta/shmeta.conf" >>"$private/log" 2>&1 &
	echo \$! >"$private/pid"
	for _ in \$(seq 200); do
		"$root/usr/bin/shmetactl" --dir "$private/run/shmeta/default" status >/dev/null 2>&1 && return
		sleep 0.1
	done
	cat "$private/log" >&2
	exit 1
}
end() {
	kill "\$(cat "$private/pid")"
	while kill -0 "\$(cat "$private/pid")" 2>/dev/null; do sleep 0.1; done
	rm "$private/pid"
}
case "\$*" in
daemon-reload) ;;
'enable --now shmetad' | 'start shmetad') begin ;;
'disable --now shmetad' | 'stop shmetad') end ;;
'restart shmetad') end && begin ;;
'reload shmetad') "$root/usr/bin/shmetactl" --dir "$private/run/shmeta/default" reload --wait ;;
*) echo "systemctl \$*: not of these documents" >&2; exit 1 ;;
esac
SH
# The instance that shmetactl looks at without --dir.
as shmetactl <<SH
case "\$*" in *--dir*) exec "$root/usr/bin/shmetactl" "\$@" ;; *) exec "$root/usr/bin/shmetactl" --dir "$private/run/shmeta/default" "\$@" ;; esac
SH
mkdir -p "$root/etc"
rmdir "$private/etc" && ln -s "$root/etc" "$private/etc"
private_paths() {
	sed -e "s|/dev/shm/|$private/shm/|g; s|/etc/shmeta|$private/etc/shmeta|g; s|/etc/credstore|$private/etc/credstore|g; s|/var/lib/shmeta|$private/var/lib/shmeta|g" \
		-e "s|/run/shmeta|$private/run/shmeta|g" "$@"
}
blocks() { # file kind: the blocks of that kind, each ended by a line of dashes
	awk -v kind="$2" '$0 == "```" kind && !inside { inside = 1; next } /^```$/ && inside { inside = 0; print "----"; next }
		/^```/ { other = !other } inside && !other { print }' "$1"
}
run_blocks() { # file: each block in a shell of its own, where every command must succeed
	local n=0 block=
	while IFS= read -r line; do
		if [ "$line" != ---- ]; then
			block+=$line$'\n'
			continue
		fi
		[[ $block =~ [^[:space:]] ]] || continue
		n=$((n + 1))
		echo "-- block $n of $1:"
		echo "$block"
		block=${block#$'\n'}
		(cd "$private/home" && PATH="$private/bin:$root/usr/sbin:$root/usr/bin:$PATH" USER=someone \
			bash -euo pipefail -c "$block"$'\n''jobs -p >>"'"$private"'/jobs"') || return 1
		block=
	done < <(blocks "$1" sh | private_paths)
	[ "$n" -ge "$2" ]
}
cp "$work/example.c" "$private/home/example.c"
PKG_CONFIG_PATH=$root/usr/lib/pkgconfig
readme_runs() {
	blocks README.md sh | grep -v '^make demo\|^make test' >"$work/readme.sh" # these two are the run of this test, and of the demo's
	{
		echo '```sh'
		sed 's/^----$/```\n\n```sh/' "$work/readme.sh"
		echo '```'
	} >"$work/README.md"
	run_blocks "$work/README.md" 2 && grep -q '^added$' "$work/log" && grep -q '^base_offset *20000$' "$work/log"
}
claim "the README's commands run as they stand, and find what they wrote" readme_runs
xargs -r kill <"$private/jobs"
postgres_blocks() { # what needs a server of PostgreSQL is run by the tests of that engine
	awk '/^```sh$/ { block = $0; inside = 1; next } inside { block = block "\n" $0; if (/^```$/) { inside = 0
		if (block !~ /postgresql:/) print block } next } { print }' docs/install.md
}
install_runs() {
	postgres_blocks >"$work/install.md"
	# The file that the text shows, and where this one instance is.
	{
		echo 'instance { directory = "/run/shmeta/default" }'
		sed -n '/^source {$/,/^}$/p' docs/install.md | sed '/^}$/q'
	} | private_paths >"$work/shmeta.conf"
	sed -i "s|^systemctl enable --now shmetad$|cp '$work/shmeta.conf' /etc/shmeta/shmeta.conf; &|" "$work/install.md"
	run_blocks "$work/install.md" 9
}
claim 'the commands of docs/install.md run as they stand, from installing to removing' install_runs
left() {
	[ -z "$(find "$root" ! -type d ! -name shmeta.conf ! -name shmeta.password)" ] && [ ! -e "$private/pid" ] && rm -r "$root/etc/shmeta" "$root/etc/credstore"
}
claim 'what they leave is data and an edited configuration' left
uninstalled() {
	make --no-print-directory install DESTDIR="$root" PREFIX=/usr CC="$cc" SAN="${SAN-}" >/dev/null &&
		make --no-print-directory uninstall DESTDIR="$root" PREFIX=/usr && [ -z "$(find "$root" ! -type d)" ] &&
		[ ! -e "$root/etc/shmeta" ]
}
claim 'make uninstall takes every file away' uninstalled
