/* SPDX-License-Identifier: Apache-2.0
 * The shape of a configuration file: comments, quotes, braces, and which assignment stands on which line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "writer/config/config.h"

enum { DEPTH_MAX = 1 };

enum token { WORD, OPEN, CLOSE, EQUALS, OTHER, END, BROKEN };

struct walk {
	char *text;
	size_t at, bytes;
	unsigned line;
	/* The token that next() found. */
	size_t begin;
	unsigned token_line;
	char *word; /* of WORD; owned until taken */
	void (*problem)(void *arg, unsigned line, const char *sentence);
	void *arg;
	bool broken;
	bool open_string;  /* a string without an end may have taken a '}' with it */
	char trouble[400]; /* of the last quoted word: a variable that cannot be filled in */
};

/* Where the walk is among the braces. */
struct place {
	const char *section, *title;
	unsigned depth;
	size_t open, nested; /* the statements that opened the section, and one within it where none may be */
};

static void complain(struct walk *w, unsigned line, const char *sentence)
{
	w->broken = true;
	w->problem(w->arg, line, sentence);
}

/* About a statement, by its full name; it is blanked later. */
static void refuse(struct walk *w, struct config_statement *s, const char *why)
{
	bool top = s->section == NULL || s->section[0] == '\0';
	char sentence[640];

	snprintf(sentence, sizeof(sentence), "%s%s%s: %s", top ? "" : s->section, top ? "" : ".", s->name, why);
	complain(w, s->line, sentence);
	s->broken = true;
}

static void blank(char *text, size_t begin, size_t end)
{
	for (size_t i = begin; i < end; i++)
		if (text[i] != '\n')
			text[i] = ' ';
}

/* What libconfuse lets stand in a word without quotes. */
static bool in_word(char c)
{
	return (unsigned char)c > ' ' && c != 0x7f && strchr("#\"'={}()+,*", c) == NULL;
}

/* Over blanks and comments, which it blanks. False: a comment was never closed. */
static bool skip(struct walk *w)
{
	while (w->at < w->bytes) {
		char c = w->text[w->at], following = w->at + 1 < w->bytes ? w->text[w->at + 1] : '\0';
		size_t begin = w->at;

		if (c == '\n') {
			w->line++;
			w->at++;
		} else if (c == ' ' || c == '\t' || c == '\r') {
			w->at++;
		} else if (c == '#' || (c == '/' && following == '/')) {
			while (w->at < w->bytes && w->text[w->at] != '\n')
				w->at++;
			blank(w->text, begin, w->at);
		} else if (c == '/' && following == '*') {
			unsigned line = w->line;

			for (w->at += 2; w->at < w->bytes &&
			                 !(w->text[w->at - 1] == '*' && w->text[w->at] == '/' && w->at >= begin + 3);
			     w->at++)
				w->line += w->text[w->at] == '\n';
			if (w->at >= w->bytes) {
				complain(w, line, "a comment is not closed");
				return false;
			}
			w->at++;
			blank(w->text, begin, w->at);
		} else {
			break;
		}
	}
	return true;
}

/* libconfuse puts "" for a variable that does not exist: nobody means that. Only double quotes have variables. */
static void judge_variable(struct walk *w)
{
	const char *begin = w->text + w->at + 2, *end = begin + strcspn(begin, "}\"\n");
	size_t bytes = (size_t)(end - begin);
	const char *colon = memchr(begin, ':', bytes);
	char name[128];

	if (w->trouble[0] != '\0')
		return;
	if (*end != '}') {
		snprintf(w->trouble, sizeof(w->trouble), "'${' is not closed by '}' in its string");
		return;
	}
	if (colon != NULL && colon[1] == '-')
		return; /* it has a default */
	snprintf(name, sizeof(name), "%.*s", bytes < sizeof(name) ? (int)bytes : (int)sizeof(name) - 1, begin);
	if (getenv(name) == NULL)
		snprintf(w->trouble, sizeof(w->trouble),
		         "the environment has no variable '%s'; set it, or write ${%s:-DEFAULT}", name, name);
}

static enum token quoted(struct walk *w, char quote)
{
	size_t begin = ++w->at;

	w->trouble[0] = '\0';
	for (; w->at < w->bytes && w->text[w->at] != quote; w->at++) {
		if (quote == '"' && w->text[w->at] == '$' && w->at + 1 < w->bytes && w->text[w->at + 1] == '{')
			judge_variable(w);
		if (w->text[w->at] == '\\' && w->at + 1 < w->bytes && w->text[w->at + 1] != '\n')
			w->at++;
		if (w->text[w->at] == '\n')
			break;
	}
	w->word = strndup(w->text + begin, w->at - begin);
	if (w->at >= w->bytes || w->text[w->at] == '\n') {
		complain(w, w->token_line, "a string is not closed on its line");
		w->open_string = true;
	} else {
		w->at++;
	}
	return w->word != NULL ? WORD : BROKEN;
}

static enum token next(struct walk *w)
{
	char c;

	free(w->word);
	w->word = NULL;
	if (!skip(w))
		return BROKEN;
	w->begin = w->at;
	w->token_line = w->line;
	if (w->at >= w->bytes)
		return END;
	c = w->text[w->at];
	switch (c) {
	case '{':
		w->at++;
		return OPEN;
	case '}':
		w->at++;
		return CLOSE;
	case '=':
		w->at++;
		return EQUALS;
	case '"':
	case '\'':
		return quoted(w, c);
	case '(':
	case ')':
	case ',':
	case '+':
	case '*':
		w->at++;
		return OTHER;
	default:
		break;
	}
	if (!in_word(c)) {
		complain(w, w->line, "a control character stands in the file; is it text?");
		return BROKEN;
	}
	while (w->at < w->bytes && in_word(w->text[w->at]))
		w->at++;
	w->word = strndup(w->text + w->begin, w->at - w->begin);
	return w->word != NULL ? WORD : BROKEN;
}

/* Keeps a word for as long as the outline lives. */
static const char *keep(struct config_outline *outline, char **word)
{
	char **names = realloc(outline->names, (outline->name_count + 1) * sizeof(*names));

	if (names == NULL)
		return NULL;
	outline->names = names;
	outline->names[outline->name_count++] = *word;
	*word = NULL;
	return outline->names[outline->name_count - 1];
}

static struct config_statement *add(struct config_outline *outline)
{
	struct config_statement *grown =
		realloc(outline->statements, (outline->count + 1) * sizeof(*outline->statements));

	if (grown == NULL)
		return NULL;
	outline->statements = grown;
	memset(&grown[outline->count], 0, sizeof(*grown));
	return &grown[outline->count++];
}

static const char *shown(const struct walk *w, enum token token, char *buffer, size_t bytes)
{
	if (token == END)
		return "the end of the file";
	if (token == WORD)
		snprintf(buffer, bytes, "'%.60s'", w->word);
	else
		snprintf(buffer, bytes, "'%c'", w->text[w->begin]);
	return buffer;
}

/* After something that does not parse: to the end of the line or of the section, where another statement is likely to begin. */
static void resume(struct walk *w)
{
	unsigned depth = 0;

	for (; w->at < w->bytes && w->text[w->at] != '\n'; w->at++) {
		if (w->text[w->at] == '}' && depth-- == 0)
			return;
		depth += w->text[w->at] == '{';
	}
}

/* The rest of a statement that was refused: up to its line's end, where another is likely to begin. */
static enum token pass_over(struct walk *w, struct config_statement *s, enum token token)
{
	if (token != CLOSE && token != END) {
		if (token == OPEN)
			w->at = w->begin; /* for its braces to be counted */
		resume(w);
		s->end = w->at;
		token = next(w);
	} else {
		s->end = w->begin;
	}
	return token;
}

/* name = value, with the name and '=' already taken. */
static enum token assignment(struct walk *w, struct config_statement *s)
{
	bool was_broken = w->broken;
	char why[192], buffer[96];
	enum token token;

	w->broken = false;
	token = next(w);
	s->broken = w->broken; /* a string without an end */
	w->broken |= was_broken;
	if (token == WORD) {
		s->end = w->at;
		if (w->trouble[0] != '\0' && w->text[w->begin] == '"')
			refuse(w, s, w->trouble);
		token = next(w);
		if (token != OTHER)
			return token;
	}
	if (token == BROKEN)
		return BROKEN;
	if (token == OPEN)
		snprintf(why, sizeof(why), "takes one value, not a list");
	else if (token == OTHER)
		snprintf(why, sizeof(why), "%s may stand in a value only within quotes",
		         shown(w, token, buffer, sizeof(buffer)));
	else
		snprintf(why, sizeof(why), "a value is missing after '='");
	refuse(w, s, why);
	return pass_over(w, s, token);
}

/* name { or name "title" {, with the brace already taken. */
static enum token section_begins(struct walk *w, struct config_statement *s, const char *title, struct place *place)
{
	char why[192];

	s->is_section = true;
	if (++place->depth > DEPTH_MAX) {
		snprintf(why, sizeof(why), "is a section within the section '%s'", place->section);
		refuse(w, s, why);
		return next(w);
	}
	s->title = title;
	place->section = s->name;
	place->title = title;
	return next(w);
}

static enum token statement(struct walk *w, struct config_outline *outline, struct place *place)
{
	struct config_statement *s = add(outline);
	const char *title = NULL;
	char why[192], buffer[96];
	enum token token;

	if (s == NULL)
		return BROKEN;
	s->section = place->depth > DEPTH_MAX ? NULL : place->section;
	s->title = place->title;
	s->line = w->token_line;
	s->begin = w->begin;
	s->end = w->at;
	s->name = keep(outline, &w->word);
	if (s->name == NULL)
		return BROKEN;
	token = next(w);
	if (token == EQUALS)
		return assignment(w, s);
	if (token == WORD) {
		if (w->trouble[0] != '\0' && w->text[w->begin] == '"')
			refuse(w, s, w->trouble);
		title = keep(outline, &w->word);
		token = title != NULL ? next(w) : BROKEN;
	}
	if (token == BROKEN)
		return BROKEN;
	if (token == OPEN) {
		if (place->depth == 0)
			place->open = outline->count - 1;
		if (place->depth == DEPTH_MAX)
			place->nested = outline->count - 1;
		return section_begins(w, s, title, place);
	}
	snprintf(why, sizeof(why), "'=' and a value, or '{', must follow, not %s",
	         shown(w, token, buffer, sizeof(buffer)));
	refuse(w, s, why);
	return pass_over(w, s, token);
}

/* Neither a name nor the end of the section that is open. */
static enum token garbage(struct walk *w, enum token token)
{
	char sentence[192], buffer[96];
	size_t begin = w->begin;

	if (token == CLOSE) {
		complain(w, w->token_line, "'}' closes nothing");
	} else {
		snprintf(sentence, sizeof(sentence), "an option's name must stand here, not %s",
		         shown(w, token, buffer, sizeof(buffer)));
		complain(w, w->token_line, sentence);
		resume(w);
	}
	blank(w->text, begin, w->at);
	return next(w);
}

enum shmeta_status config_outline_read(const char *text, size_t bytes,
                                       void (*problem)(void *arg, unsigned line, const char *sentence), void *arg,
                                       struct config_outline *ret)
{
	struct walk w = {.bytes = bytes, .line = 1, .problem = problem, .arg = arg};
	struct place place = {.section = ""};
	enum token token;

	memset(ret, 0, sizeof(*ret));
	w.text = ret->text = malloc(bytes + 1);
	if (ret->text == NULL)
		return SHMETA_ERR_NO_MEMORY;
	memcpy(ret->text, text, bytes);
	ret->text[bytes] = '\0';
	for (token = next(&w); token != END && token != BROKEN;) {
		if (token == WORD) {
			token = statement(&w, ret, &place);
		} else if (token == CLOSE && place.depth > 0) {
			if (--place.depth == DEPTH_MAX)
				ret->statements[place.nested].end = w.at;
			if (place.depth == 0) {
				ret->statements[place.open].end = w.at;
				place = (struct place){.section = ""};
			}
			token = next(&w);
		} else {
			token = garbage(&w, token);
		}
	}
	if (token == END && place.depth > 0 && !w.open_string)
		refuse(&w, &ret->statements[place.open], "the section is not closed: '}' is missing");
	free(w.word);
	if (token == BROKEN && !w.broken)
		return SHMETA_ERR_NO_MEMORY;
	ret->whole = token == END && place.depth == 0;
	return w.broken ? SHMETA_ERR_CONFIG : SHMETA_OK;
}

void config_outline_free(struct config_outline *outline)
{
	for (size_t i = 0; i < outline->name_count; i++)
		free(outline->names[i]);
	free(outline->names);
	free(outline->statements);
	free(outline->text);
	memset(outline, 0, sizeof(*outline));
}
