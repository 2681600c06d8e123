#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Containerfile and examples/compose say nothing that is not so, as far as that shows without a registry: the files parse, every name
# in them leads somewhere, the image has the libraries that the programs need, and its user runs its command on what it made.
set -uo pipefail
cd "$(dirname "$0")/../.."
python3 -c 'import yaml' 2>/dev/null || {
	echo 'there is no python3-yaml on this machine'
	exit 77
}
bin=$(cd "$BUILD/bin" && pwd)
work=$(mktemp -d "${SHMETA_TEST_SCRATCH:-/dev/shm}/shmeta-compose-XXXXXX")
daemon=
finish() {
	[ -z "$daemon" ] || { kill "$daemon" 2>/dev/null && wait "$daemon" 2>/dev/null; }
	rm -rf "$work"
}
trap finish EXIT
failed=0
claim() { # name, what was printed instead of nothing
	if [ -z "$2" ]; then echo "ok - $1"; else echo "not ok - $1"; printf '%s\n' "$2"; failed=1; fi
}

cat >"$work/check.py" <<'PYTHON'
import os, re, sys, yaml

def wrong(*words):
    print(*words)

os.chdir("examples/compose")
compose = yaml.safe_load(open("compose.yaml"))
for part in set(compose) - {"services", "volumes", "secrets", "x-host", "x-exporter"}:
    wrong("unknown part", part)
services = compose["services"]
for name in ("postgres", "host-a", "host-b", "prometheus", "grafana"):
    if name not in services:
        wrong("there is no service", name)
known = {"image", "build", "restart", "environment", "secrets", "volumes", "healthcheck", "depends_on", "ports", "read_only", "cap_drop",
         "security_opt", "stop_grace_period", "entrypoint", "command", "user", "pid", "network_mode"}
used_volumes, used_secrets = set(), set()
for name, service in services.items():
    for key in set(service) - known:
        wrong(name, "has an unknown key", key)
    # With a version, unless it is built here.
    if "build" not in service and service["image"] != services["host-a"]["image"] and not re.fullmatch(r"docker\.io/[a-z/]+:v?[0-9.]+", service["image"]):
        wrong(name, "has the image", service["image"])
    if "build" in service and not os.path.isfile(os.path.join(service["build"]["context"], service["build"]["dockerfile"])):
        wrong(name, "is built from a file that is not there")
    wanted = service.get("depends_on", {})
    for other in wanted:
        if other not in services:
            wrong(name, "depends on", other)
        if isinstance(wanted, dict) and wanted[other]["condition"] == "service_healthy" and "build" not in services[other] and \
                "healthcheck" not in services[other]:
            wrong(name, "waits for the health of", other, "which has none")
    for key in ("pid", "network_mode"):
        if service.get(key, "service:postgres")[8:] not in services:
            wrong(name, "joins", service[key])
    for volume in service.get("volumes", []):
        source, target = volume.split(":")[:2]
        if not target.startswith("/"):
            wrong(name, "mounts", volume)
        if source.startswith("."):
            if not os.path.isfile(source):
                wrong(name, "mounts", source, "which is not there")
        else:
            used_volumes.add(source)
    for secret in service.get("secrets", []):
        used_secrets.add(secret)
    for port in service.get("ports", []):
        if not port.startswith("127.0.0.1:"):
            wrong(name, "listens beyond this machine:", port)
    for value in service.get("environment", {}).values():
        if value.startswith("/run/secrets/") and value[13:] not in service.get("secrets", []):
            wrong(name, "reads", value, "which it is not given")
for what, used in (("volumes", used_volumes), ("secrets", used_secrets)):
    if used != set(compose[what]):
        wrong(what, "used and named differ:", sorted(used ^ set(compose[what])))
ignored = open("../../.gitignore").read()
for secret in compose["secrets"].values():
    if not secret["file"].endswith(".secret") or "/examples/compose/*.secret" not in ignored:
        wrong("git does not ignore", secret["file"])
# Each host has a store of its own, for the user that the image has.
stores = [v.split(":")[0] for h in ("host-a", "host-b") for v in services[h]["volumes"] if v.split(":")[1] == "/run/shmeta/default"]
if len(set(stores)) != 2:
    wrong("the stores of the hosts:", stores)
# Each host has an exporter that sees its store and its processes, and that Prometheus scrapes where it listens.
targets = {t for group in yaml.safe_load(open("exporters.yml")) for t in group["targets"]}
exporters = [s for s in services.values() if s.get("entrypoint") == ["shmeta-exporter"]]
if targets != {s["command"][s["command"].index("--listen") + 1] for s in exporters}:
    wrong("Prometheus scrapes", targets)
if {(s["volumes"][0], s["pid"]) for s in exporters} != {(services[h]["volumes"][0], "service:" + h) for h in ("host-a", "host-b")}:
    wrong("an exporter sees the store of one host and the processes of another")
image = open("../../Containerfile").read()
ids = re.search(r"groupadd -g (\d+) shmeta-read .*?useradd -r -u (\d+) ", image, re.S)
for store in stores:
    if f"uid={ids[2]},gid={ids[1]},mode=2750" not in compose["volumes"][store]["driver_opts"]["o"]:
        wrong(store, "does not belong to the image's user")
if not re.search(r"^\s*#\s*group_add: \[\"%s\"\]$" % ids[1], open("compose.yaml").read(), re.M):
    wrong("the agent of the comment is not in the group of the store")
if {s["user"] for s in exporters} != {"65534:" + ids[1]}:
    wrong("an exporter is not in the group of the store, or is more than that")
configuration = open("shmeta.conf").read()
password = re.search(r"password_file = (\S+)", configuration)[1]
if password != "/run/secrets/" + services["host-a"]["secrets"][0]:
    wrong("the daemon reads", password)
uri = re.search(r"uri = \"postgresql://(\w+)@([\w-]+)/(\w+)\"", configuration)
if uri[2] not in services or uri[1] != services["postgres"]["environment"]["POSTGRES_USER"] or \
        uri[3] != services["postgres"]["environment"]["POSTGRES_DB"]:
    wrong("the daemon's source is", uri[0])
prometheus = yaml.safe_load(open("prometheus.yml"))
for job in prometheus["scrape_configs"]:
    for group in job.get("file_sd_configs", []):
        for file in group["files"]:
            if not isinstance(yaml.safe_load(open(file)), list) or not any(v.endswith(f"/{file}:ro") for v in services["prometheus"]["volumes"]):
                wrong("no targets in", file)
grafana = yaml.safe_load(open("grafana-datasource.yml"))
if grafana["datasources"][0]["url"] != "http://prometheus:9090":
    wrong("Grafana asks", grafana["datasources"][0]["url"])
PYTHON
claim 'compose.yaml and what it mounts lead to each other' "$(python3 "$work/check.py" 2>&1)"
if command -v promtool >/dev/null; then
	claim 'promtool accepts prometheus.yml' "$(promtool check config examples/compose/prometheus.yml >"$work/log" 2>&1 || cat "$work/log")"
fi
claim 'the configuration of the hosts has no mistakes but what this host lacks' "$(
	"$bin/shmetad" --config examples/compose/shmeta.conf --dump-config 2>&1 >/dev/null
)"

needs() { # packages of what the programs are linked with, beyond the C library
	readelf -d "$bin/shmetad" "$bin/shmetactl" "$bin/shmeta-exporter" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sort -u |
		grep -v '^lib\(asan\|ubsan\|tsan\)\.so' |
		while read -r library; do dpkg-query -S "*/$library" | sed 's/:.*//'; done | sort -u | grep -v "^libc6"
}
claim 'the image has the libraries that the programs are linked with' "$(
	diff <(needs) <(sed -n '/no-install-recommends/,/&&/p' Containerfile | sed '1d;$d' | tr -s '\t \\' '\n' | grep . | sort)
)"
claim 'what the image copies is in the tree' "$(
	sed -n 's/^COPY \([a-z][^ ]*\) .*/\1/p' Containerfile | while read -r file; do [ -f "$file" ] || echo "$file"; done
	sed -n 's|^COPY --from=build /image/\([^ ]*\) .*|\1|p' Containerfile | while read -r file; do [ -x "$bin/$(basename "$file")" ] || echo "$file"; done
)"

# ---- what the image does, in a root of its own: its RUN that makes the user and directories, then its command as its USER ---------
if [ "$(id -u)" -ne 0 ] || ! unshare --mount sh -c 'mount -t tmpfs none /run' 2>/dev/null; then
	echo '# its command is not run: nothing can be mounted here'
	exit $failed
fi
grep -v '^#' Containerfile | sed -e ':a' -e '/\\$/{N;s/\\\n\t*//;ba' -e '}' | sed -n 's/^RUN \(groupadd .*\)/\1/p' >"$work/users"
mkdir "$work"/{etc,run,lib,bin}
chmod 755 "$work"
cp "$bin"/shmetad "$bin"/shmetactl "$bin"/shmeta-exporter "$work/bin/"
cp -a /etc/passwd /etc/group /etc/shadow /etc/gshadow /etc/login.defs /etc/nsswitch.conf /etc/ld.so.cache "$work/etc/" 2>/dev/null
[ ! -e /etc/pam.d ] || cp -a /etc/pam.d "$work/etc/"
sed -i '/^shmeta/d' "$work"/etc/{passwd,group,shadow,gshadow}
mkdir -p "$work/etc/default" "$work/etc/shmeta" && cp systemd/shmeta.conf "$work/etc/shmeta/"
cat >"$work/inside" <<INSIDE
mount --bind '$work/etc' /etc && mount --bind '$work/run' /run && mount --bind '$work/lib' /var/lib || exit 77
export PATH='$work/bin':/usr/sbin:/usr/bin:/sbin:/bin
set -e
$(cat "$work/users")
as="setpriv --reuid=shmeta --regid=shmeta-read --clear-groups"
\$as shmetad --config /etc/shmeta/shmeta.conf --source memory: >'$work/log' 2>&1 &
daemon=\$!
for _ in \$(seq 100); do \$as shmetactl status >/dev/null 2>&1 && break; sleep 0.1; done
\$as shmetactl status >'$work/status' && \$as shmetactl refresh list >/dev/null && echo well >'$work/health'
stat -c '%a %U %G' /run/shmeta/default/control.sock >'$work/socket'
ip link set lo up
setpriv --reuid=65534 --regid=shmeta-read --clear-groups shmeta-exporter --dir /run/shmeta/default --listen 127.0.0.1:9837 >>'$work/log' 2>&1 &
exporter=\$!
for _ in \$(seq 100); do
	python3 -c 'import urllib.request; print(urllib.request.urlopen("http://127.0.0.1:9837/ready").status)' >'$work/ready' 2>>'$work/log' && break
	sleep 0.1
done
kill \$exporter \$daemon
wait \$daemon
INSIDE
unshare --mount-proc --net --pid --fork --kill-child sh "$work/inside" >"$work/out" 2>&1 &
daemon=$!
wait "$daemon"
daemon=
claim "the image's user runs its command, and its health check says that it is well" \
	"$([ "$(cat "$work/health" 2>&1)" = well ] || cat "$work/out" "$work/log" "$work/status")"
claim 'nobody with its group runs the exporter, which finds the instance ready' "$([ "$(cat "$work/ready" 2>&1)" = 200 ] || cat "$work/ready" "$work/log")"
claim 'its group may connect' "$([ "$(cat "$work/socket" 2>&1)" = '660 shmeta shmeta-read' ] || cat "$work/socket" "$work/log")"
exit $failed
