#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The public functions, one a line, sorted: the names that include/shmeta.h declares.
set -euo pipefail
cd "$(dirname "$0")/../.."
gcc -std=gnu11 -E -P -I. include/shmeta.h | tr '\n' ' ' | tr ';{}' '\n\n\n' |
	grep -oE '\bshmeta_[a-z0-9_]+ *\(' | tr -d ' (' | sort -u
