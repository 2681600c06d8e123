/* SPDX-License-Identifier: Apache-2.0
 * The chain of sources, and when keys are renewed (ddb_credentials.h). */
#include "backends/dynamodb/ddb_credentials.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { EARLY_S = 300, JITTER_S = 60, RETRY_S = 10, RENEWAL_S = 2 };
#define SECOND_NS UINT64_C(1000000000)

static const struct {
	const char *name;
	enum shmeta_status (*ask)(const struct ddb_asking *a, struct ddb_keys *ret);
} sources[] = {{"the environment", ddb_keys_of_environment},
               {"a web identity", ddb_keys_of_web_identity},
               {"a profile", ddb_keys_of_profile},
               {"the container's endpoint", ddb_keys_of_container},
               {"the instance's metadata", ddb_keys_of_instance}};

static enum shmeta_status ask_all(struct ddb_credentials *c, const struct ddb_asking *a)
{
	struct ddb_keys *keys = calloc(1, sizeof *keys);
	enum shmeta_status status = SHMETA_ABSENT;

	if (keys == NULL)
		return backend_fail(a->err, SHMETA_ERR_NO_MEMORY, "dynamodb: out of memory");
	for (size_t i = 0; status == SHMETA_ABSENT && i < sizeof sources / sizeof *sources; i++) {
		status = sources[i].ask(a, keys);
		if (status != SHMETA_OK)
			continue;
		c->keys = *keys;
		c->from = sources[i].name;
	}
	explicit_bzero(keys, sizeof *keys);
	free(keys);
	if (status == SHMETA_ABSENT)
		status =
			backend_fail(a->err, SHMETA_ERR_SOURCE,
		                     "dynamodb: there are no credentials: none in the environment, no web identity, no "
		                     "profile, no container's endpoint, and no instance metadata that answers");
	return status;
}

enum shmeta_status ddb_credentials_get(struct ddb_credentials *c, struct ddb_http *http, const char *region, bool again,
                                       uint64_t deadline_ns, const struct ddb_keys **ret, struct backend_error *err)
{
	int64_t now_s = (int64_t)time(NULL);
	uint64_t now_ns = ddb_now_ns();
	bool good = c->keys.access[0] != '\0' && (c->keys.expires_s == 0 || c->keys.expires_s > now_s);
	struct ddb_asking a = {http, region, deadline_ns, err};
	enum shmeta_status status = SHMETA_OK;

	*ret = &c->keys;
	if (good && !again && (c->keys.expires_s == 0 || c->keys.expires_s - now_s > (int64_t)c->early_s))
		return SHMETA_OK;
	if (good && !again) {
		if (c->tried_ns != 0 && now_ns - c->tried_ns < RETRY_S * SECOND_NS)
			return SHMETA_OK;
		if (a.deadline_ns > now_ns + RENEWAL_S * SECOND_NS)
			a.deadline_ns = now_ns + RENEWAL_S * SECOND_NS;
	}
	status = ask_all(c, &a);
	if (status == SHMETA_OK) {
		c->tried_ns = 0;
		c->early_s = EARLY_S + (uint32_t)(now_ns / 1000 % JITTER_S);
		return SHMETA_OK;
	}
	c->tried_ns = now_ns;
	return good && !again ? SHMETA_OK : status;
}

void ddb_credentials_forget(struct ddb_credentials *c)
{
	explicit_bzero(c, sizeof *c);
}
