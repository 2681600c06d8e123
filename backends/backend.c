/* SPDX-License-Identifier: Apache-2.0
 * The engines there are, and the sentence of a failure. */
#include "backends/backend.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "backends/replace.h"
#include "base/err.h"

static const struct backend_engine *const engines[] = {&backend_sqlite, &backend_postgresql, &backend_cockroachdb,
                                                       &backend_dynamodb, &backend_memory};

enum shmeta_status backend_fail(struct backend_error *err, enum shmeta_status code, const char *fmt, ...)
{
	static const char mark[] = "...";
	size_t at = sizeof err->text - sizeof mark;
	int wanted;
	va_list args;

	if (err == NULL)
		return code;
	err->code = code;
	err->denied = err->alone = 0;
	va_start(args, fmt);
	wanted = vsnprintf(err->text, sizeof err->text, fmt, args);
	va_end(args);
	if (wanted >= (int)sizeof err->text) {
		/* inside a character */
		while (at > 0 && ((unsigned char)err->text[at] & 0xc0) == 0x80)
			at--;
		memcpy(err->text + at, mark, sizeof mark);
	}
	return code;
}

static bool is_named(const struct backend_engine *engine, const char *name, size_t bytes)
{
	/* libpq takes both spellings. */
	static const char other[] = "postgres";

	return (strlen(engine->name) == bytes && memcmp(engine->name, name, bytes) == 0) ||
	       (engine == &backend_postgresql && bytes == sizeof other - 1 && memcmp(other, name, bytes) == 0);
}

const struct backend_engine *backend_find(const char *uri, struct backend_error *err)
{
	const char *colon = uri != NULL ? strchr(uri, ':') : NULL;
	size_t bytes = colon != NULL ? (size_t)(colon - uri) : 0;
	char known[128] = "";
	size_t used = 0;

	for (size_t i = 0; i < sizeof engines / sizeof engines[0]; i++) {
		if (colon != NULL && is_named(engines[i], uri, bytes))
			return engines[i];
		used += (size_t)snprintf(known + used, sizeof known - used, "%s%s:", i > 0 ? ", " : "",
		                         engines[i]->name);
	}
	/* Of what lies behind the scheme nothing is shown: it may be a password. */
	if (colon == NULL || strcspn(uri, "@/ =") < bytes)
		backend_fail(err, SHMETA_ERR_CONFIG, "the source names no engine: a source starts with one of %s",
		             known);
	else
		backend_fail(err, SHMETA_ERR_CONFIG, "there is no engine '%.*s'; there are %s",
		             bytes < 40 ? (int)bytes : 40, uri, known);
	return NULL;
}

int backend_key_is_class(const struct backend_key *key)
{
	return key->cls == SHMETA_CLASS_LEASE ? key->topic.bytes == 0 : key->name.bytes == 0;
}

enum backend_feed_kind backend_feed_kind(const struct backend_engine *engine, void *state)
{
	return engine->feed != NULL ? engine->feed->kind(state) : BACKEND_FEED_NONE;
}

int backend_writable(const struct backend_engine *engine, void *state)
{
	return engine->writer != NULL && engine->writer->writable(state);
}

enum shmeta_status backend_answer_all(const struct backend_op *ops, size_t count, struct shmeta_result *results,
                                      enum shmeta_status status, const char *sentence)
{
	for (size_t i = 0; i < count; i++) {
		memset(&results[i], 0, sizeof results[i]);
		results[i].partition_id = ops[i].op->partition_id;
		results[i].status = status == SHMETA_ERR_CONFLICT ? SHMETA_ERR_SOURCE : status;
		shmeta__say(results[i].text, sizeof results[i].text, "%s", sentence);
	}
	return status == SHMETA_ERR_SOURCE || status == SHMETA_ERR_CONFIG || status == SHMETA_ERR_CONFLICT ? status
	                                                                                                   : SHMETA_OK;
}

enum shmeta_status backend_tell_done(const struct backend_op *ops, size_t count, const struct shmeta_result *results,
                                     const struct backend_sink *sink)
{
	enum shmeta_status status = SHMETA_OK;

	for (size_t i = 0; status == SHMETA_OK && i < count; i++)
		if (results[i].status == SHMETA_OK)
			status = backend_tell(&ops[i], sink);
	return status;
}

enum shmeta_status backend_fail_keys(const struct backend_key *keys, size_t count, int begun,
                                     const struct backend_sink *sink, enum shmeta_status status, const char *sentence)
{
	enum shmeta_status answer = SHMETA_OK;
	char own[sizeof((struct backend_error *)NULL)->text];

	/* It may be of the error that the sink is about to fill. */
	(void)snprintf(own, sizeof own, "%s", sentence);
	for (size_t i = 0; answer == SHMETA_OK && i < count; i++) {
		if (i > 0 || !begun)
			answer = sink->key_begin(sink->arg, &keys[i]);
		if (answer == SHMETA_OK)
			answer = sink->key_end(sink->arg, &keys[i], status, own);
	}
	return answer;
}

enum shmeta_status backend_tell(const struct backend_op *op, const struct backend_sink *sink)
{
	struct backend_key key = {.tenant = op->tenant, .topic = op->op->name, .partition_id = op->op->partition_id};
	enum shmeta_status status = SHMETA_OK;

	switch (op->op->type) {
	case SHMETA_OP_CREATE_TOPIC:
		key.topic = op->op->u.topic.name;
		key.cls = SHMETA_CLASS_TOPIC;
		break;
	case SHMETA_OP_DELETE_TOPIC:
		key.cls = SHMETA_CLASS_TOPIC;
		key.deleted = 1;
		break;
	case SHMETA_OP_UPDATE_HIGH_WATERMARK:
		key.cls = SHMETA_CLASS_PARTITION;
		break;
	case SHMETA_OP_ADD_SEGMENT:
	case SHMETA_OP_ADD_SEGMENT_AND_UPDATE_WATERMARK:
	case SHMETA_OP_ADD_SLICE:
		key.cls = SHMETA_CLASS_SEGMENT;
		key.from = key.to = op->op->u.segment.base_offset;
		break;
	case SHMETA_OP_DELETE_SEGMENTS_BEFORE:
		key.cls = SHMETA_CLASS_SEGMENT;
		key.to = op->op->offset;
		break;
	case SHMETA_OP_REPLACE_SEGMENTS:
		key.cls = SHMETA_CLASS_SEGMENT;
		key.from = op->op->u.replace.old_segments[0].base_offset;
		key.to = replace_end(&op->op->u.replace);
		break;
	case SHMETA_OP_ENSURE_GROUP:
	case SHMETA_OP_DELETE_GROUP:
		key.cls = SHMETA_CLASS_OFFSET;
		key.name = op->op->group_id;
		key.topic = (struct shmeta_str){"", 0};
		break;
	case SHMETA_OP_COMMIT_OFFSET:
		key.cls = SHMETA_CLASS_OFFSET;
		key.name = op->op->u.committed.group_id;
		break;
	case SHMETA_OP_DEREGISTER_AGENT:
		/* Its leases went with it; which ones is not known here. */
		status = sink->changed(sink->arg, &(struct backend_key){.cls = SHMETA_CLASS_LEASE});
		key = (struct backend_key){.cls = SHMETA_CLASS_AGENT, .tenant = op->tenant, .name = op->op->agent_id};
		/* It may have been one that belongs to nobody, which is shown under the default
		 * tenant. */
		if (status == SHMETA_OK)
			status = sink->changed(sink->arg, &key);
		key.tenant = (struct shmeta_str){SHMETA_DEFAULT_TENANT, strlen(SHMETA_DEFAULT_TENANT)};
		break;
	case SHMETA_OP_REGISTER_AGENT:
		key = (struct backend_key){
			.cls = SHMETA_CLASS_AGENT, .tenant = op->tenant, .name = op->op->u.agent.agent_id};
		break;
	case SHMETA_OP_RENEW_AGENT: /* its leases are told by who knows them (renewed.h) */
		key = (struct backend_key){.cls = SHMETA_CLASS_AGENT, .tenant = op->tenant, .name = op->op->agent_id};
		break;
	case SHMETA_OP_ACQUIRE_LEASE:
	case SHMETA_OP_RELEASE_LEASE:
		key.cls = SHMETA_CLASS_LEASE;
		break;
	case SHMETA_OP_COMPLETE_LEASE:
		/* The operation names a transfer, not its place. */
		key = (struct backend_key){.cls = SHMETA_CLASS_LEASE};
		break;
	case SHMETA_OP_OFFER_LEASE:
	case SHMETA_OP_ACCEPT_LEASE:
	case SHMETA_OP_REJECT_LEASE:
	case SHMETA_OP_COMMIT_OBJECT:
	case SHMETA_OP_CONFIRM_OBJECT_DELETED:
	case SHMETA_OP_TYPES:
		return SHMETA_OK;
	}
	return status == SHMETA_OK ? sink->changed(sink->arg, &key) : status;
}
