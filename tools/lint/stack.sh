#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every public function is called by tests/unit/test_stack.c, which measures how much of the caller's stack it takes.
set -euo pipefail
cd "$(dirname "$0")/../.."
status=0
for function in $(tools/lint/functions.sh); do
	case $function in shmeta_*_fn) continue ;; esac # a type
	grep -q "\b$function(" tests/unit/test_stack.c || {
		echo "tests/unit/test_stack.c does not call $function()"
		status=1
	}
done
exit $status
