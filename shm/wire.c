/* SPDX-License-Identifier: Apache-2.0
 * Judging frames. */
#include "shm/wire.h"

#include "shm/op.h"

static int known_class(uint32_t cls)
{
	return cls < SHMETA_CLASS_COUNT;
}

static int refresh_fits(const struct shmeta_frame_refresh *f, size_t bytes)
{
	size_t rest = bytes - sizeof *f;

	return known_class(f->cls) && f->name_bytes <= SHMETA_NAME_MAX && f->tenant_bytes <= SHMETA_TENANT_MAX &&
	       rest == (size_t)f->name_bytes + f->tenant_bytes;
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
		good = bytes == sizeof *head;
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
