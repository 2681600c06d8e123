#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The unit under a real systemd, booted in a container: who may read, reloads, SIGKILL, restart, a hung writer, a configuration
# that is refused; readers look up all the while. Skipped where a container cannot be booted (it takes root and control groups).
set -uo pipefail
cd "$(dirname "$0")/../.."
[ "$(id -u)" -eq 0 ] || {
	echo 'a container needs root, and this is uid' "$(id -u)"
	exit 77
}
for program in systemd-nspawn sqlite3 setpriv; do
	command -v "$program" >/dev/null || {
		echo "there is no $program on this machine"
		exit 77
	}
done
build=$(cd "${BUILD:-build}" && pwd)
root=$(mktemp -d /tmp/shmeta-service-XXXXXX)
chmod 755 "$root"
machine=$(basename "$root")
finish() {
	rm -rf "$root"
	rmdir "/run/systemd/nspawn/propagate/$machine" 2>/dev/null
}
trap finish EXIT
nspawn=(systemd-nspawn --quiet --directory="$root" --bind-ro=/usr --bind-ro="$build/bin:/opt/shmeta" --register=no --keep-unit)

# ---- a root that borrows /usr --------------------------------------------------------------------------------------------------
mkdir -p "$root"/{usr,etc/systemd/system/multi-user.target.wants,etc/shmeta,etc/sysusers.d,etc/tmpfiles.d,var/lib,run,tmp,opt/shmeta}
for link in bin sbin lib lib64; do ln -s "usr/$link" "$root/$link"; done
cp /etc/os-release /etc/ld.so.cache "$root/etc/"
: >"$root/etc/machine-id"
cp systemd/shmeta.conf "$root/etc/shmeta/"
cp systemd/sysusers.d/shmeta.conf "$root/etc/sysusers.d/"
cp systemd/tmpfiles.d/shmeta.conf "$root/etc/tmpfiles.d/"
printf '%s\n' 'u agent -' 'm agent shmeta' 'm agent shmeta-read' 'u looker -' 'm looker shmeta-read' 'u stranger -' \
	>"$root/etc/sysusers.d/users.conf"
sed 's|@SBINDIR@|/opt/shmeta|; s|@BINDIR@|/opt/shmeta|; s|^WatchdogSec=.*|WatchdogSec=2|' systemd/shmetad.service \
	>"$root/etc/systemd/system/shmetad.service"
cp systemd/shmetad.socket systemd/run-shmeta.mount "$root/etc/systemd/system/"
# LeakSanitizer traces its own process, which the unit's filter of system calls forbids.
[ -z "${SAN-}" ] || sed -i 's|^\[Service\]|&\nEnvironment=ASAN_OPTIONS=detect_leaks=0|' "$root/etc/systemd/system/shmetad.service"
cat >"$root/etc/systemd/system/claims.service" <<-'UNIT'
	[Unit]
	After=shmetad.service
	SuccessAction=exit-force
	FailureAction=exit-force
	[Service]
	Type=oneshot
	ExecStart=/bin/bash /opt/claims.sh
	StandardOutput=file:/var/claims
	StandardError=file:/var/claims.log
	TimeoutStartSec=120
	TimeoutStopSec=3
UNIT
for unit in shmetad claims; do
	ln -s "../$unit.service" "$root/etc/systemd/system/multi-user.target.wants/"
done
ln -s /usr/lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"

# ---- a reader that looks up until it is told to stop ---------------------------------------------------------------------------
if ! ${CC:-gcc} ${SAN:+-fsanitize=$SAN} -O1 -Iinclude -o "$root/opt/reader" tests/system/container/agent.c "$build/lib/libshmeta.a"; then
	echo "not ok - a reader compiles"
	exit 1
fi

cp tests/system/container/helpers.sh "$root/opt/"

# ---- what is claimed, from within ----------------------------------------------------------------------------------------------
cat >"$root/opt/claims.sh" <<'CLAIMS'
. /opt/helpers.sh
PATH=/opt/shmeta:$PATH
sees() { as agent /opt/shmeta/shmetactl get topic t >/dev/null; }

echo "# begin" >&2
claim "the unit is up once there is a generation to read" serving
if [ -e /sys/kernel/mm/transparent_hugepage/shmem_enabled ]; then
	claim "the service brings the tmpfs of the stores, with huge pages" eval 'findmnt -no FSTYPE,OPTIONS /run/shmeta | grep "^tmpfs .*huge=within_size"'
fi
claim "the socket does not listen unless it is enabled" eval '! systemctl is-active -q shmetad.socket'
claim "systemctl status says what is served" says '^serving generation [0-9]'
store=$(echo /run/shmeta/default/store.*)
as shmeta sqlite3 /var/lib/shmeta/default.db "INSERT INTO topics (name, partition_count, created_at, updated_at, config) VALUES ('t', 1, 1, 1, '{}')"
claim "a row that sqlite3 wrote shows up" until_true sees

(exec setpriv --reuid=agent --regid=agent --init-groups /opt/reader >/tmp/agent) & agent=$!
(exec setpriv --reuid=looker --regid=looker --init-groups /opt/reader >/tmp/looker) & looker=$!
claim "a member of neither group cannot read" eval '! as stranger /opt/reader'
claim "a registered reader's page and connection are kept" until_true is NFileDescriptorStore 2

claim "a reload of a good file succeeds" systemctl reload shmetad
echo 'ttl { topic_ms = never }' >/etc/shmeta/shmeta.conf
claim "a reload of a bad file fails" eval '! systemctl reload shmetad'
claim "systemctl status says why, with file and line" says 'refused: /etc/shmeta/shmeta.conf:1: ttl.topic_ms'
echo >/etc/shmeta/shmeta.conf

# What the unit takes away, the daemon does without.
claim "it writes to its source" eval '/opt/shmeta/shmetactl topic create written 2 >/dev/null && [ "$(as shmeta sqlite3 /var/lib/shmeta/default.db "SELECT partition_count FROM topics WHERE name = '\''written'\''")" = 2 ]'
claim "it has no capability, can gain none, and its system calls are filtered" eval '[ "$(grep -cE "^(CapEff|CapPrm|CapBnd|CapAmb):.0000000000000000$|^NoNewPrivs:.1$|^Seccomp:.2$" /proc/$(property MainPID)/status)" = 6 ]'
claim "it leaves no core" grep -qE "^Max core file size +0 +0 " "/proc/$(property MainPID)/limits"
claim "it is started again for ever" is StartLimitIntervalUSec 0

first=$(property MainPID)
[ "$first" -gt 1 ] || exit 1
kill -KILL "$first"
claim "a killed writer is started again" until_true eval '[ "$(property MainPID)" != 0 ] && [ "$(property MainPID)" != "$first" ] && serving'
sleep 1.5
claim "it has the registrations of the former one" is NFileDescriptorStore 2
claim "and goes on in the same generation" eval '[ "$(ls -d /run/shmeta/default/store.* | wc -l)" = 1 ] && [ -d $store ]'

systemctl restart shmetad
claim "systemctl restart keeps the store and the registrations" until_true eval 'serving && is NFileDescriptorStore 2 && [ -d $store ]'

second=$(property MainPID)
kill -STOP "$second"
claim "a hung writer is found and replaced by the watchdog" until_true eval '[ "$(property MainPID)" != "$second" ] && serving'
sleep 1.5
kill "$agent" "$looker"
wait "$agent" "$looker"
cat /tmp/agent /tmp/looker >&2
claim "the readers did not notice any of it" eval '[ "$(grep -c " failed=0 epochs=4 generations=1 " /tmp/agent /tmp/looker | tr "\n" " ")" = "/tmp/agent:1 /tmp/looker:1 " ]'
claim "the agent was registered to the end" grep -q registered=1 /tmp/agent
claim "who may only read was not, and read all the same" grep -q registered=0 /tmp/looker
claim "what a reader held is let go of when it has gone" until_true is NFileDescriptorStore 0

if [ -e "/sys/fs/cgroup$(property ControlGroup)/memory.max" ]; then
	systemctl set-property --runtime shmetad MemoryMax=300M
	systemctl restart shmetad
	claim "a memory limit that is too small for the store is told" until_true eval 'journalctl --no-pager -u shmetad | grep -q "the memory limit of this service is 300M"'
fi
systemctl stop shmetad
claim "a stop is clean" is Result success
claim "the store outlives the stop" test -f $store/data.mdb
systemctl start shmetad.socket
claim "the socket is for group shmeta, in a directory for shmeta-read" eval '[ "$(stat -c "%a %U %G" /run/shmeta/default/control.sock /run/shmeta/default | tr "\n" ,)" = "660 shmeta shmeta,2750 shmeta shmeta-read," ]'
claim "who connects to the socket starts the writer and is served by it" shmetactl --timeout 10s refresh topic t
third=$(property MainPID)
kill -KILL "$third"
claim "who connects while there is no writer waits for the next one" eval 'shmetactl --timeout 10s refresh topic t && [ "$(property MainPID)" != "$third" ]'
systemctl stop shmetad.socket shmetad
echo nonsense >/etc/shmeta/shmeta.conf
claim "a configuration that is refused fails the start" eval '! systemctl start shmetad'
sleep 1
claim "and is not tried again" eval 'is ActiveState failed && is NRestarts 0'
journalctl --no-pager -u shmetad -o json >/tmp/journal
claim "the journal has the events as fields" grep -q '"SHMETA_EVENT":"audit".*reload\|reload.*"SHMETA_EVENT":"audit"' /tmp/journal
claim "and their numbers, which do not change" eval '[ "$(grep -c "\"MESSAGE_ID\":\"[0-9a-f]\{32\}\"" /tmp/journal)" -ge "$(grep -c "\"SHMETA_EVENT\"" /tmp/journal)" ]'
cp /tmp/journal /var/journal.json
echo "# end"
CLAIMS

refusal=$(timeout 20 "${nspawn[@]}" --pipe /bin/true 2>&1) || {
	echo "no container can be started here: $(tail -n 1 <<<"${refusal:-systemd-nspawn did not end within 20 s}")"
	exit 77
}
timeout --kill-after=5 160 "${nspawn[@]}" --boot --console=pipe >"$root/console" 2>&1 </dev/null
[ -s "$root/var/claims.log" ] || {
	echo "no container can be booted here: $(grep -a . "$root/console" | tail -n 1)"
	exit 77
}
grep '^\(not \)\?ok - ' "$root/var/claims"
if grep -q '^not ok' "$root/var/claims" || ! grep -q '^# end' "$root/var/claims"; then
	tail -n 60 "$root/var/claims.log"
	tail -n 20 "$root/console"
	exit 1
fi
