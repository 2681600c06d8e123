/* SPDX-License-Identifier: Apache-2.0
 * Judging frames. */
#include "shm/wire/wire.h"

#include "shm/page/board.h"
#include "shm/wire/op.h"

static int known_class(uint32_t cls)
{
	return cls < SHMETA_CLASS_COUNT;
}

static int refresh_fits(const struct shmeta_frame_refresh *f, size_t bytes)
{
	size_t rest = bytes - sizeof *f, named = (size_t)f->name_bytes + f->tenant_bytes;
	int has_id = f->cls == SHMETA_CLASS_AGENT || f->cls == SHMETA_CLASS_OFFSET;

	return known_class(f->cls) && f->name_bytes <= SHMETA_NAME_MAX && f->tenant_bytes <= SHMETA_TENANT_MAX &&
	       rest >= named && rest - named <= (has_id ? SHMETA_NAME_MAX : 0);
}

static int operate_fits(const struct shmeta_frame_operate *f, size_t bytes)
{
	return f->text_bytes <= SHMETA_OPERATE_TEXT && f->tenant_bytes <= SHMETA_TENANT_MAX &&
	       bytes - sizeof *f == (size_t)f->text_bytes + f->tenant_bytes;
}

/* The operations themselves are judged when they are decoded (op.h); so many must at least fit. */
static int write_fits(const struct shmeta_frame_write *f, size_t bytes)
{
	size_t rest = bytes - sizeof *f, tenant = ((size_t)f->tenant_bytes + 7) / 8 * 8;

	return f->tenant_bytes <= SHMETA_TENANT_MAX && rest >= tenant && f->op_count > 0 &&
	       f->op_count <= (rest - tenant) / sizeof(struct shmeta_wire_op);
}

/* The results themselves are judged when they are decoded. */
static int results_fit(const struct shmeta_frame_results *f, size_t bytes)
{
	return f->result_count > 0 && f->result_count <= (bytes - sizeof *f) / sizeof(struct shmeta_wire_result);
}

static int objects_fit(const struct shmeta_frame_objects *f, size_t bytes)
{
	size_t rest = bytes - sizeof *f;

	return f->tenant_bytes <= SHMETA_TENANT_MAX && f->bucket_bytes <= SHMETA_STRING_MAX &&
	       f->key_bytes <= SHMETA_STRING_MAX && (f->flags & ~(uint32_t)SHMETA_OBJECTS_ASK_DELETABLE) == 0 &&
	       rest == (size_t)f->tenant_bytes + f->bucket_bytes + f->key_bytes;
}

/* The objects themselves are judged when they are decoded. */
static int object_list_fits(const struct shmeta_frame_object_list *f, size_t bytes)
{
	return f->more <= 1 && f->object_count <= (bytes - sizeof *f) / sizeof(struct shmeta_wire_object);
}

/* A prefix or nothing for topics; a whole name for what belongs to one topic; no name for classes
 * that are read as a whole. */
static int invalidate_fits(const struct shmeta_frame_invalidate *f, size_t bytes)
{
	const uint32_t flags = SHMETA_INVALIDATE_ASK_PREFIX | SHMETA_INVALIDATE_ASK_DRY_RUN;
	size_t rest = bytes - sizeof *f;
	int named = f->cls <= SHMETA_CLASS_SEGMENT, prefix = (f->flags & SHMETA_INVALIDATE_ASK_PREFIX) != 0;

	return known_class(f->cls) && (f->flags & ~flags) == 0 && (!prefix || f->cls == SHMETA_CLASS_TOPIC) &&
	       (named || f->name_bytes == 0) && (!named || prefix || f->name_bytes > 0) &&
	       f->name_bytes <= SHMETA_NAME_MAX && f->tenant_bytes <= SHMETA_TENANT_MAX &&
	       rest == (size_t)f->name_bytes + f->tenant_bytes;
}

static int epoch_end_fits(const struct shmeta_frame_epoch_end *f, size_t bytes)
{
	return f->name_bytes > 0 && f->name_bytes <= SHMETA_NAME_MAX && f->tenant_bytes <= SHMETA_TENANT_MAX &&
	       bytes - sizeof *f == (size_t)f->name_bytes + f->tenant_bytes;
}

static int wait_fits(const struct shmeta_frame_wait *f, size_t bytes)
{
	const uint32_t *words = (const uint32_t *)(f + 1);

	if (bytes - sizeof *f != (size_t)f->word_count * sizeof *words ||
	    (f->flags & ~(uint32_t)(SHMETA_WAIT_ANY | SHMETA_WAIT_END)) != 0 ||
	    (f->word_count == 0) != (f->flags == SHMETA_WAIT_ANY || f->flags == SHMETA_WAIT_END))
		return 0;
	for (uint32_t i = 0; i < f->word_count; i++)
		if (words[i] >= SHMETA_TOUCHED_WORDS)
			return 0;
	return 1;
}

static int answer_fits(const struct shmeta_frame_answer *f, size_t bytes)
{
	return f->text_bytes == bytes - sizeof *f;
}

enum shmeta_status shmeta__frame_check(const void *packet, size_t bytes)
{
	const struct shmeta_frame *head = packet;
	int good = 0;

	if (bytes < sizeof *head || bytes > SHMETA_FRAME_MAX || head->bytes != bytes ||
	    head->version != SHMETA_WIRE_VERSION)
		return SHMETA_ERR_PROTOCOL;
	switch ((enum shmeta_frame_type)head->type) {
	case SHMETA_FRAME_REGISTER:
		good = bytes == sizeof(struct shmeta_frame_register);
		break;
	case SHMETA_FRAME_REGISTERED:
		good = bytes == sizeof(struct shmeta_frame_registered);
		break;
	case SHMETA_FRAME_REFRESH:
		good = bytes >= sizeof(struct shmeta_frame_refresh) && refresh_fits(packet, bytes);
		break;
	case SHMETA_FRAME_STATUS:
	case SHMETA_FRAME_RELOAD:
	case SHMETA_FRAME_CONFIG:
		good = bytes == sizeof *head;
		break;
	case SHMETA_FRAME_ACCEPT:
		good = bytes == sizeof(struct shmeta_frame_accept);
		break;
	case SHMETA_FRAME_REVOKE:
		good = bytes == sizeof(struct shmeta_frame_revoke);
		break;
	case SHMETA_FRAME_OPERATE:
		good = bytes >= sizeof(struct shmeta_frame_operate) && operate_fits(packet, bytes);
		break;
	case SHMETA_FRAME_EPOCH_END:
		good = bytes >= sizeof(struct shmeta_frame_epoch_end) && epoch_end_fits(packet, bytes);
		break;
	case SHMETA_FRAME_WAIT:
		good = bytes >= sizeof(struct shmeta_frame_wait) && wait_fits(packet, bytes);
		break;
	case SHMETA_FRAME_HELLO:
		good = bytes == sizeof(struct shmeta_frame_hello);
		break;
	case SHMETA_FRAME_WELCOME:
		good = bytes == sizeof(struct shmeta_frame_welcome);
		break;
	case SHMETA_FRAME_WRITE:
		good = bytes >= sizeof(struct shmeta_frame_write) && write_fits(packet, bytes);
		break;
	case SHMETA_FRAME_RESULTS:
		good = bytes >= sizeof(struct shmeta_frame_results) && results_fit(packet, bytes);
		break;
	case SHMETA_FRAME_OBJECTS:
		good = bytes >= sizeof(struct shmeta_frame_objects) && objects_fit(packet, bytes);
		break;
	case SHMETA_FRAME_OBJECT_LIST:
		good = bytes >= sizeof(struct shmeta_frame_object_list) && object_list_fits(packet, bytes);
		break;
	case SHMETA_FRAME_INVALIDATE:
		good = bytes >= sizeof(struct shmeta_frame_invalidate) && invalidate_fits(packet, bytes);
		break;
	case SHMETA_FRAME_INVALIDATED:
		good = bytes == sizeof(struct shmeta_frame_invalidated);
		break;
	case SHMETA_FRAME_ANSWER:
		good = bytes >= sizeof(struct shmeta_frame_answer) && answer_fits(packet, bytes);
		break;
	}
	return good ? SHMETA_OK : SHMETA_ERR_PROTOCOL;
}

const char *shmeta__frame_name(uint16_t type)
{
	switch ((enum shmeta_frame_type)type) {
#define X(name, number, text)     \
	case SHMETA_FRAME_##name: \
		return text;
		SHMETA_FRAME_LIST(X)
#undef X
	}
	return "unknown";
}
