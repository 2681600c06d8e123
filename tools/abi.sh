#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The public interface as JSON, for the authors of bindings: abi.sh HEADER VERSION >shmeta-abi.json. Names, numbers, sizes and offsets are what
# the compiler (CC) says of the header; which functions may block is what their comments say. Ends with 1 where a function's comment says
# nothing of it.
set -euo pipefail
header=$1 version=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The header's own lines, macros expanded, comments kept.
${CC:-gcc} -std=gnu11 -E -C "$header" | awk -v header="$header" '
	/^# [0-9]+ "/ { ours = index($0, "\"" header "\"") > 0; next }
	/^#/ { next }
	ours' >"$work/text"

awk -v version="$version" '
function quoted(s) {
	gsub(/[\n\t ]+/, " ", s)
	gsub(/\\/, "\\\\", s)
	gsub(/"/, "\\\"", s)
	return s
}
function stripped(s) {
	while (match(s, /\/\*([^*]|\*+[^*\/])*\*+\//))
		s = substr(s, 1, RSTART - 1) " " substr(s, RSTART + RLENGTH)
	gsub(/__attribute__\(\(([^()]|\([^()]*\))*\)\)/, "", s)
	gsub(/[\n\t ]+/, " ", s)
	sub(/^ /, "", s)
	sub(/ $/, "", s)
	return s
}
# What a comment says behind "Blocks:"; "" when it does not.
function blocks_of(comment, flat) {
	flat = comment
	gsub(/\n[ \t]*\* ?/, " ", flat)
	if (!match(flat, /Blocks(, [A-Za-z]+)*: /))
		return ""
	flat = substr(flat, RSTART + RLENGTH)
	sub(/[.\/].*/, "", flat)
	return flat
}
function may_block(name, text, other) {
	if (text ~ /^as shmeta_/) {
		other = text
		sub(/^as /, "", other)
		sub(/\(.*/, "", other)
		return said[other] == "" ? -1 : may_block(name, said[other])
	}
	if (text ~ /with FRESH and SOURCE/ || text ~ /^as other lookups/)
		return takes_read[name]
	return text ~ /^never/ ? 0 : 1
}
function emit(s) { print s > program }
function field(struct, text, name, type) {
	text = stripped(text)
	if (text == "")
		return
	name = text
	sub(/ *\[.*/, "", name)
	sub(/.*[ *}]/, "", name)
	type = text
	if (type ~ /^union/)
		type = "union"
	else
		sub(" *" name "( *\\[.*)?$", "", type)
	emit("\tfield(\"" name "\", \"" quoted(type) "\", offsetof(struct " struct ", " name "), sizeof(((struct " struct " *)0)->" name "));")
}
function declare(text, own, banner, body, name, at, depth, from, c, parts, n, i, blocks) {
	text = stripped(text)
	if (text ~ /^(typedef|extern|static|_Pragma)/)
		return
	if (text ~ /^struct [a-z_]+ \{/) {
		name = text
		sub(/^struct /, "", name)
		sub(/ .*/, "", name)
		body = substr(text, index(text, "{") + 1)
		sub(/\}$/, "", body)
		emit("\tbegin_struct(\"" name "\", sizeof(struct " name "), _Alignof(struct " name "));")
		depth = 0
		from = 1
		for (at = 1; at <= length(body); at++) {
			c = substr(body, at, 1)
			depth += (c == "{") - (c == "}")
			if (c == ";" && depth == 0) {
				field(name, substr(body, from, at - from))
				from = at + 1
			}
		}
		emit("\tend_struct();")
		return
	}
	if (text ~ /^enum( [a-z_]+)? \{/) {
		name = text
		sub(/^enum */, "", name)
		sub(/ *\{.*/, "", name)
		body = substr(text, index(text, "{") + 1)
		sub(/\}.*$/, "", body)
		n = split(body, parts, ",")
		for (i = 1; i <= n; i++) {
			sub(/^ */, "", parts[i])
			sub(/[ =].*/, "", parts[i])
			if (parts[i] != "")
				emit("\tconstant(\"" name "\", \"" parts[i] "\", (long long)" parts[i] ");")
		}
		return
	}
	if (!match(text, /shmeta_[a-z_]+\(/))
		return
	name = substr(text, RSTART, RLENGTH - 1)
	blocks = blocks_of(own)
	if (blocks == "")
		blocks = blocks_of(banner)
	said[name] = blocks
	takes_read[name] = text ~ /const struct shmeta_read \*/
	function_name[++functions] = name
	prototype[functions] = text
}
{ all = all $0 "\n" }
END {
	program = out
	at = 1
	while (at <= length(all)) {
		rest = substr(all, at)
		if (match(rest, /^[ \t\n]+/)) {
			if (index(substr(rest, 1, RLENGTH), "\n"))
				fresh_line = 1
			at += RLENGTH
			continue
		}
		if (substr(rest, 1, 2) == "/*") {
			end = index(rest, "*/") + 1
			comment = substr(rest, 1, end)
			at += end
			if (comment ~ /-----/) {
				banner = comment
				own = ""
			} else if (fresh_line) {
				own = comment
			}
			fresh_line = 0
			continue
		}
		depth = 0
		text = ""
		while (match(rest, /[;{}]|\/\*/)) {
			c = substr(rest, RSTART, RLENGTH)
			if (c == "/*") {
				text = text substr(rest, 1, RSTART - 1) " "
				skip = RSTART + index(substr(rest, RSTART), "*/")
				rest = substr(rest, skip + 1)
				at += skip
				continue
			}
			text = text substr(rest, 1, RSTART - (c == ";" && depth == 0))
			depth += (c == "{") - (c == "}")
			at += RSTART
			rest = substr(rest, RSTART + 1)
			if (depth == 0 && (c == ";" || (c == "}" && text ~ /^static/)))
				break
		}
		if (text == "")
			break
		declare(text, own, banner)
		fresh_line = 0
	}
	bad = 0
	for (i = 1; i <= functions; i++) {
		name = function_name[i]
		block = said[name] == "" ? -1 : may_block(name, said[name])
		if (block < 0) {
			print name ": neither its comment nor that of its section says whether it blocks" > "/dev/stderr"
			bad = 1
		}
		emit("\tfunction(\"" name "\", \"" quoted(prototype[i]) "\", " (block > 0 ? 1 : 0) ");")
	}
	exit bad
}' out="$work/calls" "$work/text"

{
	cat <<'C'
#include <stddef.h>
#include <stdio.h>
C
	echo "#include \"$(realpath "$header")\""
	cat <<'C'
enum { STRUCTS, CONSTANTS, FUNCTIONS, PASSES };
static int pass, items, fields;
static void begin_item(int of, const char *indent)
{
	(void)of;
	printf("%s\n%s", items++ > 0 ? "," : "", indent);
}
static void begin_struct(const char *name, size_t size, size_t align)
{
	if (pass != STRUCTS)
		return;
	begin_item(STRUCTS, "    ");
	printf("\"%s\": {\"size\": %zu, \"align\": %zu, \"fields\": [", name, size, align);
	fields = 0;
}
static void field(const char *name, const char *type, size_t offset, size_t size)
{
	if (pass == STRUCTS)
		printf("%s\n      {\"name\": \"%s\", \"type\": \"%s\", \"offset\": %zu, \"size\": %zu}", fields++ > 0 ? "," : "", name,
		       type, offset, size);
}
static void end_struct(void)
{
	if (pass == STRUCTS)
		printf("]}");
}
static void constant(const char *of, const char *name, long long value)
{
	if (pass != CONSTANTS)
		return;
	begin_item(CONSTANTS, "    ");
	printf("\"%s\": {\"value\": %lld%s%s%s}", name, value, of[0] ? ", \"enum\": \"" : "", of, of[0] ? "\"" : "");
}
static void function(const char *name, const char *prototype, int blocks)
{
	if (pass != FUNCTIONS)
		return;
	begin_item(FUNCTIONS, "    ");
	printf("\"%s\": {\"prototype\": \"%s\", \"may_block\": %s}", name, prototype, blocks ? "true" : "false");
}
static void all(void)
{
C
	cat "$work/calls"
	cat <<'C'
}
int main(int argc, char **argv)
{
	static const char *const titles[PASSES] = {"structs", "constants", "functions"};

	printf("{\n  \"library\": \"libshmeta.so.0\",\n  \"version\": \"%s\",\n  \"machine\": \"%s\",\n", argc > 1 ? argv[1] : "",
	       argc > 2 ? argv[2] : "");
	for (pass = 0; pass < PASSES; pass++) {
		items = 0;
		printf("  \"%s\": {", titles[pass]);
		all();
		printf("\n  }%s\n", pass + 1 < PASSES ? "," : "");
	}
	printf("}\n");
	return 0;
}
C
} >"$work/abi.c"
${CC:-gcc} -std=gnu11 -o "$work/abi" "$work/abi.c"
"$work/abi" "$version" "$(${CC:-gcc} -dumpmachine)"
