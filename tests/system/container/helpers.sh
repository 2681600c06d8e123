#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# For what runs within a container of tests/system: claims about shmetad.service, told on standard output, with the reasons on standard
# error.
claim() { # sentence command...
	local sentence=$1
	shift
	if "$@" >&2; then echo "ok - $sentence"; else echo "not ok - $sentence"; systemctl --no-pager --full status shmetad >&2; fi
}
until_true() { # command...: within ten seconds
	for _ in {1..100}; do "$@" && return 0; sleep 0.1; done
	return 1
}
property() { systemctl show -P "$1" shmetad; }
is() { [ "$(property "$1")" = "$2" ]; }
as() { local user=$1; shift; setpriv --reuid="$user" --regid="$user" --init-groups "$@"; }
serving() { systemctl is-active -q shmetad && shmetactl status >/dev/null; }
says() { property StatusText | grep -q "$1"; }
