#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# include/shmeta.h stands alone: in every C since C11 and every C++ since C++11, with nothing included before it, without a warning.
set -uo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d /tmp/shmeta-header.XXXXXX)
trap 'rm -rf "$work"' EXIT
status=0

cat >"$work/user.c" <<'C'
#include "shmeta.h"
#include "shmeta.h"
static const struct shmeta_read fresh = {sizeof(struct shmeta_read), SHMETA_FRESH, 1000, SHMETA_READ_MAY_MOVE, 0, 0, 0};
int main(void)
{
	struct shmeta_options options = {sizeof(struct shmeta_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
	struct shmeta *instance;
	return shmeta_open(&options, &instance) == SHMETA_OK && fresh.timeout_ms == 1 ? 0 : 1;
}
C
cp "$work/user.c" "$work/user.cc"

try() { # claim compiler args...
	local claim=$1
	shift
	if ! command -v "$1" >/dev/null; then
		echo "# $1 is not installed: not tried"
	elif "$@" -Wall -Wextra -Werror -Iinclude -fsyntax-only; then
		echo "ok - $claim"
	else
		echo "not ok - $claim"
		status=1
	fi
}
for std in c11 c17 gnu2x; do
	try "the header is clean $std (gcc)" gcc -std=$std -pedantic-errors "$work/user.c"
done
for std in c11 c17; do
	try "the header is clean $std (clang)" clang -std=$std -pedantic-errors "$work/user.c"
done
for std in c++11 c++17 c++20; do
	try "the header is clean $std (g++)" g++ -std=$std -pedantic-errors "$work/user.cc"
	try "the header is clean $std (clang++)" clang++ -std=$std -pedantic-errors "$work/user.cc"
done
try "the header uses nothing that C++ lacks" gcc -std=c11 -Wc++-compat "$work/user.c"
exit $status
