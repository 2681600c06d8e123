/* SPDX-License-Identifier: Apache-2.0
 * A faulty DynamoDB: a proxy in front of an emulator, in a process of its own, that does by script
 * what no emulator does, and checks the signature of every request (ddb_verify.h). What the rules
 * do not catch is passed on. */
#ifndef SHMETA_TESTS_SUPPORT_DDB_PROXY_H
#define SHMETA_TESTS_SUPPORT_DDB_PROXY_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* "not done": the emulator never hears of it. */
enum ddb_fault {
	DDB_FAULT_CONFLICT,    /* TransactionConflict, not done */
	DDB_FAULT_THROTTLED,   /* ProvisionedThroughputExceeded, not done */
	DDB_FAULT_500,         /* InternalServerError, not done */
	DDB_FAULT_500_DONE,    /* the same, and it was done */
	DDB_FAULT_503,         /* a page of HTML, not done */
	DDB_FAULT_CUT,         /* the connection ends, not done */
	DDB_FAULT_CUT_DONE,    /* the connection ends when it was done */
	DDB_FAULT_UNPROCESSED, /* BatchGetItem, BatchWriteItem: the first half is done, the rest is
                                * left */
	DDB_FAULT_ONE_A_PAGE,  /* Query, Scan: one item */
	DDB_FAULT_CRC,         /* done, and the answer's checksum is wrong */
	DDB_FAULT_EXPIRED,     /* ExpiredTokenException, not done */
	DDB_FAULT_SLOW,        /* done 300 ms later */
	DDB_FAULT_HOLD,        /* done when ddb_proxy_release() is called */
	DDB_FAULT_SILENT,      /* never answered, not done; the connection stays */
	DDB_FAULT_SILENT_DONE, /* never answered, done */
	DDB_FAULT_INVALID,     /* ValidationException, not done */
	DDB_FAULT_NO_BACKUPS,  /* ContinuousBackupsUnavailableException, not done */
	DDB_FAULTS
};

/* Whom it catches: requests of this operation (NULL: any; a prefix of its name) whose body holds
 * this text (NULL: any). The first `skip` of them pass, the next `times` are caught; UINT32_MAX:
 * all. */
struct ddb_rule {
	enum ddb_fault fault;
	const char *target, *part;
	uint32_t skip, times;
};

struct ddb_proxy_page;
struct ddb_proxy {
	pid_t pid;
	uint16_t port;
	struct ddb_proxy_page *page;
};

struct ddb_proxy_counts {
	uint64_t requests; /* whose signature was right */
	uint64_t refused;  /* because of their signature or their keys */
	uint64_t stale;    /* eventually consistent reads: they see the tables as they were before
                         * anything was written */
	uint64_t held;     /* are being held now */
	uint64_t faults[DDB_FAULTS];
};

/* Begin in front of this port of 127.0.0.1. Its keys are those that ddb_server_start() puts into
 * the environment. A failure ends the program. */
void ddb_proxy_start(struct ddb_proxy *p, uint16_t upstream);
/* Idempotent. */
void ddb_proxy_stop(struct ddb_proxy *p);

/* One rule more, from now on; they are looked at in order. At most 8. */
void ddb_proxy_rule(struct ddb_proxy *p, struct ddb_rule rule);
/* No rules any more; what is held is done. */
void ddb_proxy_clear(struct ddb_proxy *p);
void ddb_proxy_release(struct ddb_proxy *p);
/* So many of a thousand requests meet a fault that a script did not choose, of those that pass by
 * themselves. */
void ddb_proxy_chaos(struct ddb_proxy *p, uint32_t per_mille);
/* Whose requests are taken: these keys too, or, expired, no longer. */
void ddb_proxy_login(struct ddb_proxy *p, const char *access, const char *secret, const char *token, int expired);
void ddb_proxy_counts(const struct ddb_proxy *p, struct ddb_proxy_counts *ret);
/* Why the last request was refused. */
const char *ddb_proxy_why(const struct ddb_proxy *p);

#endif
