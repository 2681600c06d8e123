/* SPDX-License-Identifier: Apache-2.0 */
#include "writer/config/config_parse.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

enum token { WORD, OPEN, CLOSE, EQUALS, OTHER, END, BROKEN };

struct parser {
	const char *at, *end;
	unsigned line;
	const struct config_syntax *syntax;
	/* The token that next() found. */
	const char *begin;
	unsigned token_line;
	struct shmeta_str word; /* decoded, in words */
	char fault[400];        /* why the word cannot be used; "": it can */
	bool open_string;       /* a string that was not closed may have taken a '}' with it */
	bool no_memory;
	struct arena words;
	/* The word that is being decoded. */
	char *buffer;
	size_t used, room;
	/* Sections that are open; statements of sections within a section are not reported. */
	unsigned depth;
	struct config_statement section;
};

static void report(struct parser *p, unsigned line, const char *sentence)
{
	p->syntax->problem(p->syntax->arg, line, sentence);
}

static void refuse(struct parser *p, const struct config_statement *s, const char *why)
{
	bool top = p->depth > 1 || s->section[0] == '\0';
	char sentence[640];

	snprintf(sentence, sizeof(sentence), "%s%s%s: %s", top ? "" : s->section, top ? "" : ".", s->name, why);
	report(p, s->line, sentence);
}

/* ---- words ---- */

static void put(struct parser *p, const char *bytes, size_t count)
{
	if (p->room - p->used < count) {
		size_t room = 2 * p->room + count + 64;
		char *grown = realloc(p->buffer, room);

		if (grown == NULL) {
			p->no_memory = true;
			return;
		}
		p->buffer = grown;
		p->room = room;
	}
	memcpy(p->buffer + p->used, bytes, count);
	p->used += count;
}

static bool in_bare_word(char c)
{
	return (unsigned char)c > ' ' && c != 0x7f && strchr("#\"'={}()+,*", c) == NULL;
}

/* "${NAME}" or "${NAME:-DEFAULT}", up to its '}'. A variable that does not exist is a fault: nobody
 * means "". */
static void take_variable(struct parser *p)
{
	const char *name = p->at + 2, *end = name + strcspn(name, "}\"\n"), *value, *colon;
	char variable[256];

	if (*end != '}') {
		snprintf(p->fault, sizeof(p->fault), "'${' is not closed by '}' in its string");
		p->at += 2;
		return;
	}
	p->at = end + 1;
	colon = memchr(name, ':', (size_t)(end - name));
	if (colon != NULL && colon[1] != '-')
		colon = NULL;
	snprintf(variable, sizeof(variable), "%.*s", (int)((colon != NULL ? colon : end) - name), name);
	value = getenv(variable);
	if (value != NULL)
		put(p, value, strlen(value));
	else if (colon != NULL)
		put(p, colon + 2, (size_t)(end - colon - 2));
	else
		snprintf(p->fault, sizeof(p->fault),
		         "the environment has no variable '%.128s'; set it, or write ${%.128s:-DEFAULT}", variable,
		         variable);
}

/* The escapes of a string in double quotes: those of C, and \e. A backslash before any other
 * character is dropped. */
static void take_escape(struct parser *p)
{
	static const char letters[] = "abefnrtv", meanings[] = "\a\b\033\f\n\r\t\v";
	size_t octal = strspn(p->at + 1, "01234567"), decimal = strspn(p->at + 1, "0123456789"),
	       hex = p->at[1] == 'x' ? strspn(p->at + 2, "0123456789abcdefABCDEF") : 0;
	const char *letter = strchr(letters, p->at[1]);
	char digits[4], c = p->at[1];
	size_t length = 2;

	if (decimal > 0) {
		length = 1 + decimal;
		snprintf(digits, sizeof(digits), "%.*s", (int)decimal, p->at + 1);
		if (octal < decimal || decimal > 3 || strtoul(digits, NULL, 8) > 0xff)
			snprintf(p->fault, sizeof(p->fault), "'%.*s' is not an octal escape from \\0 to \\377",
			         decimal < 16 ? (int)length : 16, p->at);
		c = (char)strtoul(digits, NULL, 8);
	} else if (hex > 0) {
		length = 2 + (hex < 2 ? hex : 2);
		snprintf(digits, sizeof(digits), "%.*s", (int)length - 2, p->at + 2);
		c = (char)strtoul(digits, NULL, 16);
	} else if (letter != NULL && *letter != '\0') {
		c = meanings[letter - letters];
	}
	put(p, &c, 1);
	p->at += length;
}

/* A string ends on the line on which it begins. */
static void take_string(struct parser *p)
{
	char quote = *p->at++;

	while (p->at < p->end && *p->at != quote && *p->at != '\n') {
		bool escape = *p->at == '\\' && p->at + 1 < p->end && p->at[1] != '\n';

		if (quote == '"' && escape) {
			take_escape(p);
		} else if (quote == '"' && p->at[0] == '$' && p->at[1] == '{') {
			take_variable(p);
		} else {
			p->at += escape && (p->at[1] == '\\' || p->at[1] == '\'');
			put(p, p->at++, 1);
		}
	}
	if (p->at < p->end && *p->at == quote) {
		p->at++;
	} else {
		snprintf(p->fault, sizeof(p->fault), "a string is not closed on its line");
		p->open_string = true;
	}
}

/* ---- tokens ---- */

/* Skips blanks and comments. False: a comment was never closed. */
static bool skip_blanks(struct parser *p)
{
	for (; p->at < p->end; p->at++) {
		if (*p->at == '\n') {
			p->line++;
		} else if (*p->at == '#' || (p->at[0] == '/' && p->at[1] == '/')) {
			while (p->at + 1 < p->end && p->at[1] != '\n')
				p->at++;
		} else if (p->at[0] == '/' && p->at[1] == '*') {
			unsigned line = p->line;

			for (p->at += 2; p->at < p->end && !(p->at[0] == '*' && p->at[1] == '/'); p->at++)
				p->line += *p->at == '\n';
			if (p->at >= p->end) {
				report(p, line, "a comment is not closed");
				return false;
			}
			p->at++;
		} else if (*p->at != ' ' && *p->at != '\t' && *p->at != '\r') {
			break;
		}
	}
	return true;
}

static enum token next(struct parser *p)
{
	static const char marks[] = "{}=(),+*";
	static const enum token tokens[] = {OPEN, CLOSE, EQUALS, OTHER, OTHER, OTHER, OTHER, OTHER};
	const char *mark;

	p->fault[0] = '\0';
	if (!skip_blanks(p))
		return BROKEN;
	p->begin = p->at;
	p->token_line = p->line;
	if (p->at >= p->end)
		return END;
	mark = memchr(marks, *p->at, sizeof(marks) - 1);
	if (mark != NULL) {
		p->at++;
		return tokens[mark - marks];
	}
	p->used = 0;
	if (*p->at == '"' || *p->at == '\'') {
		take_string(p);
		if (memchr(p->begin, '\0', (size_t)(p->at - p->begin)) != NULL)
			snprintf(p->fault, sizeof(p->fault), "a control character stands in the string; is it text?");
	} else if (in_bare_word(*p->at)) {
		while (p->at < p->end && in_bare_word(*p->at))
			p->at++;
		put(p, p->begin, (size_t)(p->at - p->begin));
	} else {
		report(p, p->line, "a control character stands in the file; is it text?");
		return BROKEN;
	}
	p->no_memory |= arena_str(&p->words, (struct shmeta_str){p->buffer, p->used}, &p->word) != 0;
	return p->no_memory ? BROKEN : WORD;
}

static const char *token_text(const struct parser *p, enum token token, char *buffer, size_t bytes)
{
	if (token == END)
		return "the end of the file";
	if (token == WORD)
		snprintf(buffer, bytes, "'%.60s'", p->word.data);
	else
		snprintf(buffer, bytes, "'%c'", *p->begin);
	return buffer;
}

/* Goes on after something that does not parse: at the end of its line or of its section, where the
 * next statement is likely to begin. token: the one that was not expected. */
static enum token resume(struct parser *p, enum token token)
{
	unsigned depth = 0;

	if (token == CLOSE || token == END || token == BROKEN)
		return token;
	if (token == OPEN)
		p->at = p->begin; /* to count its braces */
	for (; p->at < p->end && *p->at != '\n'; p->at++) {
		if (*p->at == '}' && depth-- == 0)
			break;
		depth += *p->at == '{';
	}
	return next(p);
}

/* ---- statements ---- */

static void accept(struct parser *p, const struct config_statement *s)
{
	if (p->depth <= 1)
		p->syntax->statement(p->syntax->arg, s);
}

/* The name and '=' have been read. */
static enum token option(struct parser *p, struct config_statement *s, bool refused)
{
	enum token token = next(p);
	char why[192], buffer[96];

	if (token == WORD) {
		s->value = p->word.data;
		if (p->fault[0] != '\0')
			refuse(p, s, p->fault);
		refused |= p->fault[0] != '\0';
		token = next(p);
		if (token != OTHER) {
			if (!refused)
				accept(p, s);
			return token;
		}
	}
	if (token == OPEN)
		snprintf(why, sizeof(why), "takes one value, not a list");
	else if (token == OTHER)
		snprintf(why, sizeof(why), "%s may stand in a value only within quotes",
		         token_text(p, token, buffer, sizeof(buffer)));
	else
		snprintf(why, sizeof(why), "a value is missing after '='");
	if (token != BROKEN)
		refuse(p, s, why);
	return resume(p, token);
}

/* The name, the title if there is one, and '{' have been read. */
static enum token section(struct parser *p, struct config_statement *s, bool refused)
{
	char why[192];

	if (p->depth > 0 && !refused) {
		snprintf(why, sizeof(why), "is a section within the section '%s'", p->section.name);
		refuse(p, s, why);
	} else if (!refused) {
		accept(p, s);
	}
	if (p->depth++ == 0)
		p->section = *s;
	return next(p);
}

static enum token statement(struct parser *p)
{
	struct config_statement s = {.section = p->depth > 0 ? p->section.name : "",
	                             .title = p->depth > 0 ? p->section.title : NULL,
	                             .name = p->word.data,
	                             .line = p->token_line};
	bool refused = p->fault[0] != '\0';
	char why[192], buffer[96];
	enum token token;

	if (refused)
		report(p, s.line, p->fault);
	token = next(p);
	if (token == EQUALS)
		return option(p, &s, refused);
	if (token == WORD) {
		s.title = p->word.data;
		if (p->fault[0] != '\0') {
			refuse(p, &s, p->fault);
			refused = true;
			s.title = NULL;
		}
		token = next(p);
	}
	if (token == OPEN)
		return section(p, &s, refused);
	if (token != BROKEN && !refused && s.name[0] == '[')
		refuse(p, &s, "a section is written 'name { ... }'");
	else if (token != BROKEN && !refused) {
		snprintf(why, sizeof(why), "'=' and a value, or '{', must follow, not %s",
		         token_text(p, token, buffer, sizeof(buffer)));
		refuse(p, &s, why);
	}
	return resume(p, token);
}

/* Neither a name nor the end of an open section. */
static enum token garbage(struct parser *p, enum token token)
{
	char sentence[192], buffer[96];

	if (token == CLOSE) {
		report(p, p->token_line, "'}' closes nothing");
		return next(p);
	}
	snprintf(sentence, sizeof(sentence), "an option's name must stand here, not %s",
	         token_text(p, token, buffer, sizeof(buffer)));
	report(p, p->token_line, sentence);
	return resume(p, token);
}

bool config_parse(const char *text, size_t bytes, const struct config_syntax *syntax)
{
	struct parser p = {.at = text, .end = text + bytes, .line = 1, .syntax = syntax};
	enum token token = next(&p);

	while (token != END && token != BROKEN) {
		if (token == WORD) {
			token = statement(&p);
		} else if (token == CLOSE && p.depth > 0) {
			p.depth--;
			token = next(&p);
		} else {
			token = garbage(&p, token);
		}
	}
	if (token == END && p.depth > 0 && !p.open_string) {
		p.depth = 0;
		refuse(&p, &p.section, "the section is not closed: '}' is missing");
	}
	free(p.buffer);
	arena_free(&p.words);
	return !p.no_memory;
}
