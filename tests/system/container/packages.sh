#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The life of the packages on a host, from within: tests/system/nspawn_packages.sh runs it in a container whose service manager is
# systemd. /opt has the packages and the commands of docs/install.md.
. /opt/helpers.sh
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
cd /opt || exit 1
sql() { as shmeta sqlite3 -cmd '.timeout 5000' /var/lib/shmeta/default.db "$1"; }
journal() { journalctl --no-pager -u shmetad "$@"; }
with_drop_in() { # file of shmetad.service.d, lines on standard input
	mkdir -p /etc/systemd/system/shmetad.service.d
	cat >"/etc/systemd/system/shmetad.service.d/$1"
	systemctl daemon-reload
}
report() { # the agent's, of now
	local lines
	lines=$(wc -l </tmp/agent)
	kill -USR1 "$agent"
	until_true eval '[ "$(wc -l </tmp/agent)" -gt '"$lines"' ]'
	tail -n 1 /tmp/agent
}

echo "# install" >&2
claim 'the commands of docs/install.md install the packages' bash -euo pipefail /opt/install.sh
claim 'the daemon runs and is enabled' until_true eval 'serving && systemctl is-enabled -q shmetad'
claim 'nobody but the operator enables the socket' eval '! systemctl is-enabled -q shmetad.socket'
claim 'the user and both groups are there' eval 'id -nG shmeta | grep -qw shmeta-read'
claim 'the instance is for members of shmeta-read to read' eval '[ "$(stat -c "%a %U %G" /run/shmeta/default)" = "2750 shmeta shmeta-read" ]'
if [ -e /sys/kernel/mm/transparent_hugepage/shmem_enabled ]; then
	claim 'the stores have a tmpfs of their own with huge pages' eval 'findmnt -no FSTYPE,OPTIONS /run/shmeta | grep "^tmpfs .*huge=within_size"'
fi
claim 'an agent compiles with what libshmeta-dev brings' cc -O1 -o /opt/agent agent.c $(pkg-config --cflags --libs shmeta)
useradd -r -G shmeta,shmeta-read agent
useradd -r stranger
sql "INSERT INTO topics (name, partition_count, created_at, updated_at, config) VALUES ('t', 1, 1, 1, '{}')"
claim 'a row that sqlite3 wrote shows up' until_true eval 'as agent shmetactl get topic t >/dev/null'
claim 'a stranger reads nothing' eval '! as stranger shmetactl get topic t 2>/dev/null'
(exec setpriv --reuid=agent --regid=agent --init-groups /opt/agent >/tmp/agent) & agent=$!
claim 'an agent reads, registered' until_true is NFileDescriptorStore 2

echo "# journal" >&2
id=$(shmetad --print-catalog | grep -B1 '^Subject: The daemon starts ' | sed -n 's/^-- //p')
claim 'each event has its number in the journal' eval 'journal -o json "MESSAGE_ID=$id" | grep "\"SHMETA_EVENT\":\"starting\"" | grep -q "\"SHMETA_INSTANCE\":\"default\""'
claim 'journalctl -x explains the events' eval 'journal -x SHMETA_EVENT=starting | grep -q "^-- .*The daemon starts (default)\|Subject: The daemon starts (default)"'

echo "# limits" >&2
limits=/proc/$(property MainPID)/limits
claim 'it may open what the unit says, and leaves no core' eval 'grep -qE "^Max open files +8192 +8192 " "$limits" && grep -qE "^Max core file size +0 +0 " "$limits"'
claim 'it goes before those that wait' eval '[ "$(ps -o ni= -p "$(property MainPID)" | tr -d " ")" = -10 ]'
claim 'it has no capability and its system calls are filtered' eval '[ "$(grep -cE "^(CapEff|CapPrm|CapBnd|CapAmb):.0000000000000000$|^NoNewPrivs:.1$|^Seccomp:.2$" "/proc/$(property MainPID)/status")" = 6 ]'

echo "# configuration" >&2
mkdir /etc/shmeta/shmeta.conf.d
echo 'ttl { topic_ms = 17s }' >/etc/shmeta/shmeta.conf.d/10-ttl.conf
claim 'a reload takes a drop-in' eval 'systemctl reload shmetad && shmetactl config show | grep "topic_ms.*17s.*shmeta.conf.d/10-ttl.conf:1"'
configuration() { shmetactl config show --json | grep -v '^ *"time"' | sed '/"last_reload"/,$d'; }
configuration >/tmp/before
echo 'ttl { topic_ms = never }' >/etc/shmeta/shmeta.conf.d/20-bad.conf
claim 'a reload of a bad drop-in fails' eval '! systemctl reload shmetad'
claim 'systemctl status says why, with file and line' says 'refused: /etc/shmeta/shmeta.conf.d/20-bad.conf:1: ttl.topic_ms'
claim 'and nothing has changed' eval 'configuration | cmp - /tmp/before'
rm /etc/shmeta/shmeta.conf.d/20-bad.conf
install -d -m 0700 /etc/credstore
echo secret >/etc/credstore/shmeta.password
echo 'source { password_file = password }' >/etc/shmeta/shmeta.conf.d/30-password.conf
systemctl restart shmetad
claim 'a credential of the store reaches the daemon, and nobody else' eval 'until_true serving && shmetactl config show | grep -q "password_file.*/run/credentials/shmetad.service/password" &&
	grep -qx secret /run/credentials/shmetad.service/password && ! as agent cat /run/credentials/shmetad.service/password 2>/dev/null'

echo "# faults" >&2
with_drop_in watchdog.conf <<<$'[Service]\nWatchdogSec=2'
systemctl restart shmetad
until_true serving
store=$(echo /run/shmeta/default/store.*)
first=$(property MainPID)
[ "$first" -gt 1 ] || exit 1
kill -KILL "$first"
claim 'a killed daemon is started again, with the store and the registration of the former one' until_true eval '[ "$(property MainPID)" != 0 ] && [ "$(property MainPID)" != "$first" ] &&
	serving && is NFileDescriptorStore 2 && [ -d $store ]'
claim 'it proved the store that it found, and says so' until_true eval 'journal "_PID=$(property MainPID)" | grep -q "serving ${store##*/} of the former writer"'
second=$(property MainPID)
kill -STOP "$second"
claim 'a hung daemon is found and replaced by the watchdog' until_true eval '[ "$(property MainPID)" != "$second" ] && serving'

echo "# stop with writes in the queue" >&2
seq 160 | xargs -P 16 -I{} sh -c 'shmetactl --timeout 2s topic create w{} 1 >/dev/null 2>&1 && echo w{}' >/tmp/acknowledged & writers=$!
until_true eval '[ "$(wc -l </tmp/acknowledged)" -ge 40 ]'
systemctl stop shmetad
claim 'a stop is clean' is Result success
wait "$writers"
sql "SELECT name FROM topics WHERE name LIKE 'w%'" | sort >/tmp/written
claim "of $(wc -l </tmp/acknowledged) writes that were answered none is lost" eval '[ "$(wc -l </tmp/acknowledged)" -ge 40 ] && [ -z "$(sort /tmp/acknowledged | comm -23 - /tmp/written)" ]'
claim 'the others were told so' eval '[ "$(wc -l </tmp/acknowledged)" -lt 160 ]'
claim 'the store outlives the stop, and the agent reads on' eval '[ -f $store/data.mdb ] && report | grep -q " failed=0 "'

echo "# socket" >&2
claim 'the socket can be enabled while the daemon is stopped' systemctl enable -q --now shmetad.socket
claim 'it is for group shmeta, in a directory for shmeta-read' eval '[ "$(stat -c "%a %U %G" /run/shmeta/default/control.sock)" = "660 shmeta shmeta" ] && [ "$(stat -c "%a %U %G" /run/shmeta/default)" = "2750 shmeta shmeta-read" ]'
claim 'who connects starts the daemon and is served by it' eval 'shmetactl --timeout 10s refresh topic t && until_true serving'
socket=$(stat -c %i /run/shmeta/default/control.sock)
third=$(property MainPID)
kill -KILL "$third"
claim 'who connects while there is no daemon waits and is served' shmetactl --timeout 10s refresh topic t
claim 'by the next daemon, on the same socket' eval '[ "$(property MainPID)" != "$third" ] && [ "$(stat -c %i /run/shmeta/default/control.sock)" = "$socket" ]'
systemctl stop shmetad.socket shmetad
systemctl disable -q shmetad.socket
claim 'without the socket the daemon makes its own' eval 'systemctl start shmetad && until_true serving && shmetactl refresh topic t && ! systemctl is-active -q shmetad.socket'

echo "# without a network" >&2
with_drop_in sqlite-only.conf </usr/share/shmeta/sqlite-only.conf
systemctl restart shmetad
claim 'with sqlite-only.conf it serves, writes, and has no network' eval 'until_true serving && shmetactl topic create lonely 1 >/dev/null &&
	[ "$(readlink "/proc/$(property MainPID)/ns/net")" != "$(readlink /proc/self/ns/net)" ]'
rm /etc/systemd/system/shmetad.service.d/sqlite-only.conf
systemctl daemon-reload

echo "# a second instance" >&2
: >/etc/shmeta/two.conf
claim 'a second instance runs beside the first' eval 'systemctl enable -q --now shmetad@two && shmetactl --instance two status >/dev/null && [ -f /var/lib/shmeta/two.db ]'

echo "# upgrade" >&2
echo '# edited' >>/etc/shmeta/shmeta.conf
newest() { printf '%s\n' /run/shmeta/default/store.* | sort -V | tail -n 1; }
store=$(newest)
before=$(property MainPID) two=$(systemctl show -P MainPID shmetad@two)
claim 'an upgrade with an agent attached succeeds' dpkg -i newer/*.deb
claim 'both instances run the new version' until_true eval 'serving && [ "$(property MainPID)" != "$before" ] && systemctl is-active -q shmetad@two && [ "$(systemctl show -P MainPID shmetad@two)" != "$two" ]'
claim 'the edited configuration stays' grep -qx '# edited' /etc/shmeta/shmeta.conf
claim 'the registration and the store stay' eval 'until_true is NFileDescriptorStore 2 && [ "$(newest)" = "$store" ]'

echo "# remove, purge, install again" >&2
systemctl enable -q --now shmetad.socket 2>/dev/null # refused as the daemon runs; enabled all the same
claim 'the packages can be removed' apt-get -qq remove -y shmeta
claim 'nothing of it runs' eval '! systemctl is-active -q shmetad && ! systemctl is-active -q shmetad.socket && ! systemctl is-active -q shmetad@two && ! pgrep -x shmetad'
last=$(report)
echo "agent: $last" >&2
claim "until the purge no read has failed ($last)" grep -q ' failed=0 ' <<<"$last"
claim 'a purge succeeds with an agent attached' apt-get -qq purge -y shmeta
claim 'a purge leaves the data, the user, and nothing else' eval 'ls -ld /run/shmeta /etc/shmeta/* /etc/systemd/system/*.wants/*; [ ! -e /run/shmeta ] && [ -f /var/lib/shmeta/default.db ] && id shmeta >/dev/null &&
	[ -z "$(find /lib/systemd/system /etc/systemd/system /usr/lib/systemd/catalog /usr/bin /usr/sbin -name "*shmeta*" ! -path "/etc/systemd/system/shmetad.service.d*")" ] &&
	[ "$(find /etc/shmeta -type f | sort | tr "\n" " ")" = "/etc/shmeta/shmeta.conf.d/10-ttl.conf /etc/shmeta/shmeta.conf.d/30-password.conf /etc/shmeta/two.conf " ]'
claim 'the agent is still alive' kill -0 "$agent"
claim 'installed again, it serves the data that stayed' eval 'dpkg -i newer/shmeta_*.deb && until_true serving && as agent shmetactl get topic t >/dev/null'
before_reads=$(report | sed 's/.*failed=\([0-9]*\) .*/\1/')
claim 'and the agent of before the purge reads the new store' until_true eval 'now=$(report | sed "s/.*failed=\([0-9]*\) .*/\1/"); sleep 0.3; [ "$(report | sed "s/.*failed=\([0-9]*\) .*/\1/")" = "$now" ]'
echo "failed between purge and install: $before_reads" >&2
kill "$agent"
wait "$agent"
cat /tmp/agent >&2
claim 'the library can be purged' eval 'apt-get -qq purge -y shmeta libshmeta0 libshmeta-dev && [ -z "$(find /usr/lib /usr/include -name "*shmeta*")" ]'
echo "# end"
