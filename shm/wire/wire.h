/* SPDX-License-Identifier: Apache-2.0
 * Frames on control.sock: SOCK_SEQPACKET, one frame a packet, fixed little-endian structs, at most
 * SHMETA_FRAME_MAX bytes. Every frame begins with struct shmeta_frame; an answer repeats the
 * request's id. Many requests may be in flight on one connection; answers come in any order. A
 * frame that does not parse closes the connection that sent it. */
#ifndef SHMETA_SHM_WIRE_WIRE_H
#define SHMETA_SHM_WIRE_WIRE_H

#include <stdint.h>

#include "include/shmeta.h"
#include "shm/page/frozen.h"

enum { SHMETA_FRAME_MAX = 131072, SHMETA_WIRE_VERSION = 1 };

#define SHMETA_FRAME_LIST(X)                                                                         \
	X(REGISTER, 1, "register") /* -> REGISTERED with the memfd as SCM_RIGHTS, or ANSWER */       \
	X(REGISTERED, 2, "registered")                                                               \
	X(REFRESH, 3, "refresh") /* -> ANSWER once the store shows the key */                        \
	X(STATUS, 4, "status")   /* -> ANSWER: text is one JSON object */                            \
	X(RELOAD, 5, "reload")   /* -> ANSWER: ERR_CONFIG and the sentence when it was refused */    \
	X(ANSWER, 6, "answer")                                                                       \
	X(HELLO, 7, "hello") /* -> WELCOME, or ANSWER ERR_VERSION and the connection is closed    */ \
	X(WELCOME, 8, "welcome")                                                                     \
	X(WRITE, 9, "write") /* -> RESULTS, or ANSWER when nothing was done                       */ \
	X(RESULTS, 10, "results")                                                                    \
	X(OBJECTS, 11, "objects") /* -> OBJECT_LIST: a page, or ANSWER */                            \
	X(OBJECT_LIST, 12, "object_list")                                                            \
	X(INVALIDATE, 13, "invalidate") /* -> INVALIDATED once the store shows it, or ANSWER */      \
	X(INVALIDATED, 14, "invalidated")                                                            \
	X(CONFIG, 15, "config")       /* -> ANSWER: text is the running configuration, in JSON */    \
	X(ACCEPT, 16, "accept")       /* -> ANSWER: text is what to accept, txn its fingerprint */   \
	X(REVOKE, 17, "revoke")       /* -> ANSWER: txn is how many registrations ended */           \
	X(OPERATE, 18, "operate")     /* -> ANSWER: text is what became of it */                     \
	X(EPOCH_END, 19, "epoch_end") /* -> ANSWER: generation is the epoch, txn where it ends */    \
	X(WAIT, 20, "wait")           /* -> ANSWER when it is to be looked at again; with WAIT_END
                                       * none */

enum shmeta_frame_type {
#define X(name, number, text) SHMETA_FRAME_##name = number,
	SHMETA_FRAME_LIST(X)
#undef X
};

struct shmeta_frame {
	uint32_t bytes;   /*  0  of the whole frame; equals the packet's length */
	uint16_t version; /*  4  SHMETA_WIRE_VERSION                            */
	uint16_t type;    /*  6  enum shmeta_frame_type                         */
	uint64_t id;      /*  8  chosen by the client, repeated in the answer   */
};
SHMETA_FROZEN(shmeta_frame, bytes, 0);
SHMETA_FROZEN(shmeta_frame, version, 4);
SHMETA_FROZEN(shmeta_frame, type, 6);
SHMETA_FROZEN(shmeta_frame, id, 8);
SHMETA_FROZEN_SIZE(shmeta_frame, 16);

struct shmeta_frame_register {
	struct shmeta_frame head; /*  0 */
	uint64_t agent_pid;       /* 16 */
	uint32_t agent_version;   /* 24 */
	uint32_t slot_count;      /* 28  wanted; the writer may give fewer */
	char agent_name[64];      /* 32  padded with NUL */
};
SHMETA_FROZEN(shmeta_frame_register, agent_pid, 16);
SHMETA_FROZEN(shmeta_frame_register, agent_version, 24);
SHMETA_FROZEN(shmeta_frame_register, slot_count, 28);
SHMETA_FROZEN(shmeta_frame_register, agent_name, 32);
SHMETA_FROZEN_SIZE(shmeta_frame_register, 96);

struct shmeta_frame_registered {
	struct shmeta_frame head; /*  0 */
	uint64_t registration;    /* 16 */
	uint64_t epoch;           /* 24 */
	uint32_t slot_count;      /* 32 */
	uint32_t reserved;        /* 36 */
};
SHMETA_FROZEN(shmeta_frame_registered, registration, 16);
SHMETA_FROZEN(shmeta_frame_registered, epoch, 24);
SHMETA_FROZEN(shmeta_frame_registered, slot_count, 32);
SHMETA_FROZEN_SIZE(shmeta_frame_registered, 40);

enum {
	SHMETA_REFRESH_ASK_RECENT = 1u << 0,   /* what was found absent a moment before will do */
	SHMETA_REFRESH_ASK_SEGMENTS = 1u << 1, /* TOPIC: its partitions with all of their
                                                * segments */
	SHMETA_REFRESH_ASK_NO_FILL = 1u << 2   /* what has to be loaded is the first to leave
                                                * again */
};

/* name_bytes bytes of topic follow the struct, then tenant_bytes bytes of tenant, and then, up to
 * the frame's end, the id of an agent (AGENT) or a group (OFFSET). Without any name the whole class
 * is meant. */
struct shmeta_frame_refresh {
	struct shmeta_frame head; /*  0 */
	uint32_t cls;             /* 16  enum shmeta_class */
	uint32_t partition_id;    /* 20 */
	uint32_t name_bytes;      /* 24 */
	uint32_t tenant_bytes;    /* 28 */
	uint32_t timeout_ms;      /* 32  after that the client no longer waits */
	uint32_t flags;           /* 36  SHMETA_REFRESH_ASK_* */
};
SHMETA_FROZEN(shmeta_frame_refresh, cls, 16);
SHMETA_FROZEN(shmeta_frame_refresh, partition_id, 20);
SHMETA_FROZEN(shmeta_frame_refresh, name_bytes, 24);
SHMETA_FROZEN(shmeta_frame_refresh, tenant_bytes, 28);
SHMETA_FROZEN(shmeta_frame_refresh, timeout_ms, 32);
SHMETA_FROZEN(shmeta_frame_refresh, flags, 36);
SHMETA_FROZEN_SIZE(shmeta_frame_refresh, 40);

/* With OK, to a REFRESH of one offset or one lease: the source does not have it. The store need not
 * show that, where it lacks topics. */
#define SHMETA_ANSWER_ABSENT "absent"

/* text_bytes bytes of text follow the struct: the sentence of an error, or what was asked for. */
struct shmeta_frame_answer {
	struct shmeta_frame head; /*  0 */
	int32_t status;           /* 16  enum shmeta_status */
	uint32_t text_bytes;      /* 20 */
	uint64_t txn;             /* 24  the commit that shows it; 0: none */
	uint64_t generation;      /* 32 */
	uint64_t synced_at_ns;    /* 40  when the source was read */
};
SHMETA_FROZEN(shmeta_frame_answer, status, 16);
SHMETA_FROZEN(shmeta_frame_answer, text_bytes, 20);
SHMETA_FROZEN(shmeta_frame_answer, txn, 24);
SHMETA_FROZEN(shmeta_frame_answer, generation, 32);
SHMETA_FROZEN(shmeta_frame_answer, synced_at_ns, 40);
SHMETA_FROZEN_SIZE(shmeta_frame_answer, 48);

/* Consent to a source that is not published because it lost most of its content. fingerprint 0:
 * only tell. ERR_NOT_FOUND: nothing is to be consented to; ERR_CONFLICT: it has another fingerprint
 * by now. */
struct shmeta_frame_accept {
	struct shmeta_frame head; /*  0 */
	uint64_t fingerprint;     /* 16 */
};
SHMETA_FROZEN(shmeta_frame_accept, fingerprint, 16);
SHMETA_FROZEN_SIZE(shmeta_frame_accept, 24);

/* Take back the snapshots of a registered process. ERR_NOT_FOUND: there is none that is meant by
 * this. */
struct shmeta_frame_revoke {
	struct shmeta_frame head; /*  0 */
	uint64_t reader;          /* 16  number of a registration, or process id: those are all smaller */
};
SHMETA_FROZEN(shmeta_frame_revoke, reader, 16);
SHMETA_FROZEN_SIZE(shmeta_frame_revoke, 24);

/* What an operator asks for, besides what has a frame of its own. text_bytes bytes of text follow,
 * then tenant_bytes bytes of tenant. */
struct shmeta_frame_operate {
	struct shmeta_frame head; /*  0 */
	uint32_t operation;       /* 16  enum shmeta_operation */
	uint32_t text_bytes;      /* 20  at most SHMETA_OPERATE_TEXT */
	uint64_t number;          /* 24  milliseconds, or a partition; 0: the operation's own */
	uint32_t timeout_ms;      /* 32  after that the client no longer waits; 0: never */
	uint32_t tenant_bytes;    /* 36  0 where the operation is of no tenant, or of the default one */
};
SHMETA_FROZEN(shmeta_frame_operate, operation, 16);
SHMETA_FROZEN(shmeta_frame_operate, text_bytes, 20);
SHMETA_FROZEN(shmeta_frame_operate, number, 24);
SHMETA_FROZEN(shmeta_frame_operate, timeout_ms, 32);
SHMETA_FROZEN(shmeta_frame_operate, tenant_bytes, 36);
SHMETA_FROZEN_SIZE(shmeta_frame_operate, 40);

/* The first frame of a client that writes. The highest version that both know is used from then
 * on. */
struct shmeta_frame_hello {
	struct shmeta_frame head; /*  0 */
	uint32_t version_min;     /* 16 */
	uint32_t version_max;     /* 20 */
	uint32_t agent_version;   /* 24 */
	uint32_t reserved;        /* 28 */
	char agent_name[64];      /* 32  padded with NUL */
};
SHMETA_FROZEN(shmeta_frame_hello, version_min, 16);
SHMETA_FROZEN(shmeta_frame_hello, version_max, 20);
SHMETA_FROZEN(shmeta_frame_hello, agent_version, 24);
SHMETA_FROZEN(shmeta_frame_hello, agent_name, 32);
SHMETA_FROZEN_SIZE(shmeta_frame_hello, 96);

enum { SHMETA_VERB_READ = 1u << 0, SHMETA_VERB_WRITE = 1u << 1, SHMETA_VERB_ADMIN = 1u << 2 };

/* Beside them, no rights of the peer's: its operations may carry trace ids; it may send WAIT.
 * Clients that do not know them ignore them. */
enum { SHMETA_WELCOME_TRACES = 1u << 8, SHMETA_WELCOME_WAITS = 1u << 9 };

struct shmeta_frame_welcome {
	struct shmeta_frame head; /*  0 */
	uint32_t version;         /* 16  chosen */
	uint32_t verbs;           /* 20  SHMETA_VERB_*: what this peer may do; SHMETA_WELCOME_* */
	uint64_t epoch;           /* 24  of the writer */
	uint32_t frame_max;       /* 32 */
	uint32_t requests_max;    /* 36  unanswered ones on a connection */
};
SHMETA_FROZEN(shmeta_frame_welcome, version, 16);
SHMETA_FROZEN(shmeta_frame_welcome, verbs, 20);
SHMETA_FROZEN(shmeta_frame_welcome, epoch, 24);
SHMETA_FROZEN(shmeta_frame_welcome, frame_max, 32);
SHMETA_FROZEN(shmeta_frame_welcome, requests_max, 36);
SHMETA_FROZEN_SIZE(shmeta_frame_welcome, 40);

/* tenant_bytes bytes of tenant follow, zeros up to a multiple of 8, then op_count operations
 * (op.h), which end the frame exactly. */
struct shmeta_frame_write {
	struct shmeta_frame head; /*  0 */
	uint32_t tenant_bytes;    /* 16 */
	uint32_t op_count;        /* 20 */
	uint32_t timeout_ms;      /* 24  then the client no longer waits, and what was not begun is dropped; 0: never */
	uint32_t reserved;        /* 28 */
};
SHMETA_FROZEN(shmeta_frame_write, tenant_bytes, 16);
SHMETA_FROZEN(shmeta_frame_write, op_count, 20);
SHMETA_FROZEN(shmeta_frame_write, timeout_ms, 24);
SHMETA_FROZEN_SIZE(shmeta_frame_write, 32);

/* result_count results (op.h) follow and end the frame exactly, in the order of the operations. */
struct shmeta_frame_results {
	struct shmeta_frame head; /*  0 */
	uint32_t result_count;    /* 16 */
	int32_t status;           /* 20  OK, or ERR_NOT_CACHED */
	uint64_t txn;             /* 24 */
	uint64_t generation;      /* 32 */
};
SHMETA_FROZEN(shmeta_frame_results, result_count, 16);
SHMETA_FROZEN(shmeta_frame_results, status, 20);
SHMETA_FROZEN(shmeta_frame_results, txn, 24);
SHMETA_FROZEN(shmeta_frame_results, generation, 32);
SHMETA_FROZEN_SIZE(shmeta_frame_results, 40);

enum { SHMETA_OBJECTS_ASK_DELETABLE = 1u << 0 };

/* tenant_bytes bytes of tenant follow, then bucket and key of the object behind which to go on (0
 * and 0 bytes: from the first). */
struct shmeta_frame_objects {
	struct shmeta_frame head; /*  0 */
	uint32_t tenant_bytes;    /* 16 */
	uint32_t bucket_bytes;    /* 20 */
	uint32_t key_bytes;       /* 24 */
	uint32_t flags;           /* 28  SHMETA_OBJECTS_ASK_* */
	uint32_t most;            /* 32  objects in the answer; 0: as many as fit */
	uint32_t timeout_ms;      /* 36  after that the client no longer waits; 0: never */
};
SHMETA_FROZEN(shmeta_frame_objects, tenant_bytes, 16);
SHMETA_FROZEN(shmeta_frame_objects, bucket_bytes, 20);
SHMETA_FROZEN(shmeta_frame_objects, key_bytes, 24);
SHMETA_FROZEN(shmeta_frame_objects, flags, 28);
SHMETA_FROZEN(shmeta_frame_objects, most, 32);
SHMETA_FROZEN(shmeta_frame_objects, timeout_ms, 36);
SHMETA_FROZEN_SIZE(shmeta_frame_objects, 40);

/* object_count objects (op.h) follow and end the frame exactly, in order of bucket and key. */
struct shmeta_frame_object_list {
	struct shmeta_frame head; /*  0 */
	uint32_t object_count;    /* 16 */
	uint32_t more;            /* 20  1: there are others behind the last one */
};
SHMETA_FROZEN(shmeta_frame_object_list, object_count, 16);
SHMETA_FROZEN(shmeta_frame_object_list, more, 20);
SHMETA_FROZEN_SIZE(shmeta_frame_object_list, 24);

/* How far the log goes that was written under an epoch of a partition. name_bytes bytes of topic
 * follow the struct, then tenant_bytes bytes of tenant. The answer's status is OK, ABSENT or
 * ABSENT_BEFORE_START. */
struct shmeta_frame_epoch_end {
	struct shmeta_frame head; /*  0 */
	uint64_t epoch;           /* 16 */
	uint32_t partition_id;    /* 24 */
	uint32_t name_bytes;      /* 28 */
	uint32_t tenant_bytes;    /* 32 */
	uint32_t timeout_ms;      /* 36  after that the client no longer waits; 0: never */
};
SHMETA_FROZEN(shmeta_frame_epoch_end, epoch, 16);
SHMETA_FROZEN(shmeta_frame_epoch_end, partition_id, 24);
SHMETA_FROZEN(shmeta_frame_epoch_end, name_bytes, 28);
SHMETA_FROZEN(shmeta_frame_epoch_end, tenant_bytes, 32);
SHMETA_FROZEN(shmeta_frame_epoch_end, timeout_ms, 36);
SHMETA_FROZEN_SIZE(shmeta_frame_epoch_end, 40);

enum {
	SHMETA_WAIT_ANY = 1u << 0, /* any commit will do; word_count is 0 */
	SHMETA_WAIT_END = 1u << 1  /* the wait that this connection began with the same id ends, and
                                    * is answered END, unless it was answered already; word_count is
                                    * 0 */
};

/* Answered once the commit `txn` of the generation is not the newest one that changed what hashes
 * to one of the touched words, whose indices follow. */
struct shmeta_frame_wait {
	struct shmeta_frame head; /*  0 */
	uint64_t generation;      /* 16 */
	uint64_t txn;             /* 24 */
	uint32_t word_count;      /* 32 */
	uint32_t flags;           /* 36  SHMETA_WAIT_* */
};
SHMETA_FROZEN(shmeta_frame_wait, generation, 16);
SHMETA_FROZEN(shmeta_frame_wait, txn, 24);
SHMETA_FROZEN(shmeta_frame_wait, word_count, 32);
SHMETA_FROZEN(shmeta_frame_wait, flags, 36);
SHMETA_FROZEN_SIZE(shmeta_frame_wait, 40);

/* Words of one frame. */
enum { SHMETA_WAIT_WORDS = (SHMETA_FRAME_MAX - (int)sizeof(struct shmeta_frame_wait)) / (int)sizeof(uint32_t) };

enum { SHMETA_INVALIDATE_ASK_PREFIX = 1u << 0, SHMETA_INVALIDATE_ASK_DRY_RUN = 1u << 1 };

/* name_bytes bytes of a topic's name, or with ASK_PREFIX of how names begin, follow the struct,
 * then tenant_bytes bytes of tenant. */
struct shmeta_frame_invalidate {
	struct shmeta_frame head; /*  0 */
	uint32_t cls;             /* 16  enum shmeta_class; LIST: everything */
	uint32_t partition_id;    /* 20 */
	uint32_t name_bytes;      /* 24 */
	uint32_t tenant_bytes;    /* 28 */
	uint32_t timeout_ms;      /* 32  then the client no longer waits, and what was not begun is not; 0: never */
	uint32_t flags;           /* 36  SHMETA_INVALIDATE_ASK_* */
};
SHMETA_FROZEN(shmeta_frame_invalidate, cls, 16);
SHMETA_FROZEN(shmeta_frame_invalidate, partition_id, 20);
SHMETA_FROZEN(shmeta_frame_invalidate, name_bytes, 24);
SHMETA_FROZEN(shmeta_frame_invalidate, tenant_bytes, 28);
SHMETA_FROZEN(shmeta_frame_invalidate, timeout_ms, 32);
SHMETA_FROZEN(shmeta_frame_invalidate, flags, 36);
SHMETA_FROZEN_SIZE(shmeta_frame_invalidate, 40);

/* What the store held of it, and the commit that shows what was read; a dry run: the newest
 * commit. */
struct shmeta_frame_invalidated {
	struct shmeta_frame head; /*  0 */
	uint64_t topics;          /* 16 */
	uint64_t partitions;      /* 24 */
	uint64_t records;         /* 32  agents, groups, committed offsets, leases */
	uint64_t txn;             /* 40 */
	uint64_t generation;      /* 48 */
};
SHMETA_FROZEN(shmeta_frame_invalidated, topics, 16);
SHMETA_FROZEN(shmeta_frame_invalidated, partitions, 24);
SHMETA_FROZEN(shmeta_frame_invalidated, records, 32);
SHMETA_FROZEN(shmeta_frame_invalidated, txn, 40);
SHMETA_FROZEN(shmeta_frame_invalidated, generation, 48);
SHMETA_FROZEN_SIZE(shmeta_frame_invalidated, 56);

/* Pure; the fuzz target. Judges a received packet: length, version, type, and that the variable
 * parts fit exactly. The packet must be in the judge's own memory, aligned to 8. SHMETA_OK or
 * SHMETA_ERR_PROTOCOL. */
enum shmeta_status shmeta__frame_check(const void *packet, size_t bytes);

const char *shmeta__frame_name(uint16_t type);

#endif
