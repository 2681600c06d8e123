/* SPDX-License-Identifier: Apache-2.0
 * What operators ask of the running daemon: a pause of the source and its end, another level of the
 * log for a while, another value of an option until it is started again, why a key is not
 * resident. */
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "base/escape.h"
#include "base/utf8.h"
#include "shm/page/last_start.h"
#include "writer/daemon/daemon_private.h"
#include "writer/daemon/limits.h"

static void audit(const struct daemon *d, const char *who, const char *what, const char *text, const char *became)
{
	char line[1400];

	shmeta__say(line, sizeof(line), "%s: %s%s%s: %s", who, what, text[0] != '\0' ? " " : "", text, became);
	if (d->config->write_audit)
		log_audit(line);
}

static int64_t wall_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* The file comes first: a daemon that ends in between is paused when it starts again, and not taken
 * for one that never was. */
static enum shmeta_status pause_source(struct daemon *d, const char *who, const char *why, uint64_t ticket,
                                       char *ret_sentence, size_t bytes)
{
	struct shmeta_err err = {0};
	enum shmeta_status status;
	char sentence[700], limit[400], when[32] = "?";
	time_t now = time(NULL);
	struct tm tm;

	/* Who is refused leaves nothing for the next start. */
	if (sync_pause_is_due(d->sync))
		return SHMETA_ERR_BUSY;
	if (gmtime_r(&now, &tm) != NULL)
		(void)strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	shmeta__say(sentence, sizeof(sentence), "paused since %s by %s: %s; 'shmetactl resume' ends it", when, who,
	            why[0] != '\0' ? why : "no reason was given");
	status = shmeta__paused_write(d->instance.dir_fd, wall_ms(), sentence, &err);
	if (status != SHMETA_OK) {
		bool limited = limits_of_files(d->instance.dir_fd, false, 0, limit, sizeof(limit));

		shmeta__say(ret_sentence, bytes, "not paused: a restart would not know of it: cannot write %s/%s%s%s",
		            d->instance.path, err.text, limited ? ": " : "", limited ? limit : "");
		return status;
	}
	status = sync_pause(d->sync, sentence, ticket);
	if (status == SHMETA_OK)
		audit(d, who, "pause", why, "done");
	return status;
}

static enum shmeta_status resume_source(struct daemon *d, const char *who, uint64_t ticket)
{
	enum shmeta_status status = sync_pause(d->sync, NULL, ticket);

	if (status != SHMETA_OK)
		return status;
	shmeta__paused_remove(d->instance.dir_fd);
	audit(d, who, "resume", "", "done");
	return SHMETA_OK;
}

static enum shmeta_status change_level(struct daemon *d, const char *who, const char *word, uint64_t for_ms,
                                       uint64_t ticket, char *ret_sentence, size_t bytes)
{
	int level = word[0] != '\0' ? log_level_parse(word) : (int)d->config->log_level;
	char text[128];

	if (level < 0) {
		snprintf(ret_sentence, bytes, "'%.40s' is no level; expected debug, info, notice, warning or err",
		         word);
		return SHMETA_ERR_INVALID_ARGUMENT;
	}
	log_set_level(level);
	d->level_until_ns = word[0] != '\0' && for_ms > 0 ? shmeta__boottime_ns() + for_ms * MS : 0;
	snprintf(text, sizeof(text), "the log has level %s now%s", log_level_name(level),
	         word[0] == '\0'          ? ", as configured"
	         : d->level_until_ns != 0 ? ", for the time given"
	                                  : ", until the next reload");
	log_unlimited(LOG_NOTICE, "log_level", text);
	audit(d, who, "log-level", word, "done");
	control_answer(d->control, ticket, SHMETA_OK, text, 0, 0, 0);
	return SHMETA_OK;
}

enum shmeta_status daemon_operate(void *arg, const char *who, uint32_t operation, struct shmeta_str tenant,
                                  struct shmeta_str text, uint64_t number, uint64_t ticket, char *ret_sentence,
                                  size_t bytes)
{
	struct daemon *d = arg;
	char given[SHMETA_OPERATE_TEXT + 1], clean[4 * SHMETA_OPERATE_TEXT + 1];
	enum shmeta_status status = SHMETA_ERR_INVALID_ARGUMENT;

	ret_sentence[0] = '\0';
	if (d->sync == NULL) {
		snprintf(ret_sentence, bytes, "the writer is stopping; nothing was done");
		return SHMETA_ERR_WRITER_AWAY;
	}
	snprintf(given, sizeof(given), "%.*s", (int)text.bytes, text.data);
	(void)shmeta__escape_line(clean, sizeof(clean), given);
	switch (operation) {
	case SHMETA_OPERATE_PAUSE:
	case SHMETA_OPERATE_RESUME:
		if (!mailbox_owe(d->mailbox)) {
			status = SHMETA_ERR_NO_MEMORY;
			break;
		}
		status = operation == SHMETA_OPERATE_PAUSE ? pause_source(d, who, clean, ticket, ret_sentence, bytes)
		                                           : resume_source(d, who, ticket);
		if (status != SHMETA_OK)
			mailbox_settle(d->mailbox);
		break;
	case SHMETA_OPERATE_EXPLAIN:
		if (!mailbox_owe(d->mailbox)) {
			status = SHMETA_ERR_NO_MEMORY;
			break;
		}
		status = sync_explain(d->sync, tenant, text, number, ticket);
		if (status != SHMETA_OK)
			mailbox_settle(d->mailbox);
		if (status == SHMETA_ERR_BUSY)
			snprintf(ret_sentence, bytes, "another question is being answered; try again in a moment");
		break;
	case SHMETA_OPERATE_SET:
		status = daemon_set(d, who, clean, ret_sentence, bytes);
		if (status == SHMETA_OK)
			control_answer(d->control, ticket, SHMETA_OK, ret_sentence, 0, 0, 0);
		break;
	case SHMETA_OPERATE_LOG_LEVEL:
		status = change_level(d, who, given, number, ticket, ret_sentence, bytes);
		break;
	default:
		snprintf(ret_sentence, bytes, "this writer knows no operation %u", (unsigned)operation);
	}
	if (ret_sentence[0] == '\0' && status == SHMETA_ERR_NOT_FOUND)
		snprintf(ret_sentence, bytes, "the source is not paused");
	else if (ret_sentence[0] == '\0' && status == SHMETA_ERR_BUSY)
		snprintf(ret_sentence, bytes, "a pause or its end is being done; try again in a moment");
	return status;
}

void daemon_end_level(struct daemon *d)
{
	if (d->level_until_ns == 0 || shmeta__boottime_ns() < d->level_until_ns)
		return;
	d->level_until_ns = 0;
	log_set_level((int)d->config->log_level);
	log_unlimited(LOG_NOTICE, "log_level", "the log has its configured level again");
}
