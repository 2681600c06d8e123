/* SPDX-License-Identifier: Apache-2.0
 * Who asks: the keys that requests are signed with. They come from the first of these that is
 * configured: the environment, a web identity (IRSA), the profile files, a container's endpoint
 * (ECS, EKS Pod Identity), the instance metadata service (version 2 alone). No program is started
 * for them. Nothing here is ever logged; errors name the source, never a key. */
#ifndef SHMETA_BACKENDS_DYNAMODB_DDB_CREDENTIALS_H
#define SHMETA_BACKENDS_DYNAMODB_DDB_CREDENTIALS_H

#include "backends/backend.h"
#include "backends/dynamodb/ddb_http.h"

struct ddb_keys {
	char access[256], secret[256];
	char token[8192];  /* "": none */
	int64_t expires_s; /* 0: never */
};

struct ddb_credentials {
	struct ddb_keys keys; /* access "": none yet */
	const char *from;     /* where they are from, for people */
	uint64_t tried_ns;    /* the last refresh that failed; 0: none */
	uint32_t early_s;     /* so long before they expire they are asked for anew */
};

/* The keys as they are to be used now: asked for when there are none, ahead of their end, and where
 * `again` says that they were refused. Keys that cannot be renewed are used until they expire.
 * region: whose STS is asked. Blocks: until the deadline at most, and 2 s where there are keys that
 * are good still. ERR_SOURCE: none can be had, err says from where. The keys live until the next
 * call. */
enum shmeta_status ddb_credentials_get(struct ddb_credentials *c, struct ddb_http *http, const char *region, bool again,
                                       uint64_t deadline_ns, const struct ddb_keys **ret, struct backend_error *err);
void ddb_credentials_forget(struct ddb_credentials *c);

/* What a source answers: OK, ABSENT (it is not configured), or ERR_SOURCE with a sentence. Each is
 * tried in this order. */
struct ddb_asking {
	struct ddb_http *http;
	const char *region;
	uint64_t deadline_ns;
	struct backend_error *err;
};
enum shmeta_status ddb_keys_of_environment(const struct ddb_asking *a, struct ddb_keys *ret);
enum shmeta_status ddb_keys_of_web_identity(const struct ddb_asking *a, struct ddb_keys *ret);
enum shmeta_status ddb_keys_of_profile(const struct ddb_asking *a, struct ddb_keys *ret);
enum shmeta_status ddb_keys_of_container(const struct ddb_asking *a, struct ddb_keys *ret);
enum shmeta_status ddb_keys_of_instance(const struct ddb_asking *a, struct ddb_keys *ret);

#endif
