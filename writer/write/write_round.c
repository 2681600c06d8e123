/* SPDX-License-Identifier: Apache-2.0
 * What a round has for the source (write_round.h). */
#include "writer/write/write_round.h"

#include <stdio.h>
#include <stdlib.h>

#include "shm/wire/op.h"
#include "writer/keys/queue.h"

void write_round_free(struct write_round *r)
{
	if (r == NULL)
		return;
	while (r->parts != NULL) {
		struct write_part *part = r->parts;

		r->parts = part->next;
		write_part_free(part);
	}
	free(r->ops);
	free(r->results);
	free(r->place);
	free(r->requests);
	free(r->by_id);
	free(r->duplicates);
	free(r);
}

/* Its place among the round's ids: 1 + index in ops, 0 where it is to be put. */
static uint32_t *place_of_id(struct write_round *r, const struct request *request)
{
	size_t at = request_id_hash(r->s->writes->done, request) % r->by_id_size;

	while (r->by_id[at] != 0 && !request_same_id(&r->requests[r->by_id[at] - 1], request))
		at = (at + 1) % r->by_id_size;
	return &r->by_id[at];
}

/* Is an operation with this one's id in the round already? A client that lost its connection may
 * have come back so soon. */
static enum request_known is_duplicate(struct write_round *r, const struct request *request,
                                       struct shmeta_result *result)
{
	uint32_t of = request_has_id(request) ? *place_of_id(r, request) : 0;

	if (of == 0)
		return REQUEST_NEW;
	if (r->requests[of - 1].operation == request->operation) {
		r->duplicates[r->duplicate_count++] = (struct duplicate){result, of - 1};
		return REQUEST_SAME;
	}
	request_refuse(&r->requests[of - 1], result);
	return REQUEST_OTHER;
}

static void send(struct write_round *r, struct shmeta_str tenant, const struct shmeta_op *op,
                 const struct request *request, struct shmeta_result *result)
{
	r->ops[r->count] = (struct backend_op){.tenant = tenant, .op = op};
	r->requests[r->count] = *request;
	r->place[r->count++] = result;
	if (request_has_id(request))
		*place_of_id(r, request) = (uint32_t)r->count;
}

/* The object whose slices follow in a call. Behind one that did not go to the source, they would be
 * taken for another call's. */
struct unit {
	const struct shmeta_op *object; /* NULL: none */
	const struct shmeta_result *result;
	uint64_t hash;
	bool sent;  /* it stands in the round right before its slices, or other slices of it do */
	size_t ops; /* of the unit that it leads there */
};

/* May this slice go to the source now? */
static bool follows(struct write_round *r, struct shmeta_str tenant, struct unit *unit, struct shmeta_result *result)
{
	const struct request nobody = {.id = {0, 0}};
	size_t most = r->s->engine->limits.unit_ops;

	if (unit->object == NULL) {
		result->status = SHMETA_ERR_INVALID_ARGUMENT;
		(void)snprintf(result->text, sizeof result->text, "a slice without its object before it");
		return false;
	}
	if (!unit->sent && unit->result->status != SHMETA_OK && unit->result->status != SHMETA_ERR_ALREADY_EXISTS) {
		result->status = unit->result->status;
		(void)snprintf(result->text, sizeof result->text, "its object: %.140s", unit->result->text);
		return false;
	}
	if (!unit->sent || (most != 0 && unit->ops == most)) {
		/* it has been done, or will be by then */
		send(r, tenant, unit->object, &nobody, NULL);
		unit->ops = 1;
	}
	unit->sent = true;
	unit->ops++;
	return true;
}

static void collect_op(struct write_round *r, struct write_call *c, size_t i, struct unit *unit, uint64_t hash)
{
	const struct shmeta_op *op = &c->ops[i];
	struct shmeta_result *result = &c->results[i];
	const struct request request = {.id = {op->request_id[0], op->request_id[1]},
	                                .tenant = queue_name_hash(c->tenant, (struct shmeta_str){"", 0}),
	                                .operation = hash,
	                                .uid = c->uid,
	                                .type = op->type};
	struct shmeta_err err = {.code = SHMETA_OK};
	enum request_known known;

	result->partition_id = op->partition_id;
	known = request_ids_recall(r->s->writes->done, &request, result);
	c->again[i] = known == REQUEST_SAME;
	if (known != REQUEST_NEW)
		return;
	result->status = shmeta__op_check(op, &err);
	if (result->status != SHMETA_OK) {
		(void)snprintf(result->text, sizeof result->text, "%.159s", err.text);
		return;
	}
	if (!store_health_fits(r->s, op, &r->room_left, result))
		return;
	known = is_duplicate(r, &request, result);
	c->again[i] = known == REQUEST_SAME;
	if (known != REQUEST_NEW)
		return;
	if (op->type == SHMETA_OP_ADD_SLICE && !follows(r, c->tenant, unit, result))
		return;
	send(r, c->tenant, op, &request, result);
	r->makes_room |= store_health_freed_by(op);
	if (op->type == SHMETA_OP_COMMIT_OBJECT) {
		unit->sent = true;
		unit->ops = 1;
	}
}

bool write_round_collect(struct write_round *r)
{
	size_t room = 1, most = r->s->engine->limits.unit_ops;

	r->room_left = UINT64_MAX;
	for (const struct write_part *part = r->parts; part != NULL; part = part->next)
		/* objects that go again */
		room += part->turn.ops + (most != 0 ? part->turn.ops / (most - 1) : 0);
	for (r->by_id_size = 64; r->by_id_size < 2 * room;)
		r->by_id_size *= 2;
	r->ops = calloc(room, sizeof *r->ops);
	r->results = calloc(room, sizeof *r->results);
	r->place = calloc(room, sizeof(struct shmeta_result *));
	r->requests = calloc(room, sizeof *r->requests);
	r->by_id = calloc(r->by_id_size, sizeof *r->by_id);
	r->duplicates = calloc(room, sizeof *r->duplicates);
	if (r->ops == NULL || r->results == NULL || r->place == NULL || r->requests == NULL || r->by_id == NULL ||
	    r->duplicates == NULL)
		return false;
	for (struct write_part *part = r->parts; part != NULL; part = part->next) {
		struct write_call *c = part->call;
		const uint8_t *encoded = part->encoded;
		struct unit unit = {.object = NULL};

		for (size_t i = part->first; i < part->end; i++) {
			size_t bytes = ((const struct shmeta_wire_op *)(const void *)encoded)->bytes;
			bool slice = c->ops[i].type == SHMETA_OP_ADD_SLICE;
			uint64_t hash = request_operation_hash(encoded, bytes, slice ? unit.hash : 0);

			if (!slice)
				unit = (struct unit){.result = &c->results[i], .hash = hash};
			if (c->ops[i].type == SHMETA_OP_COMMIT_OBJECT)
				unit.object = &c->ops[i];
			collect_op(r, c, i, &unit, hash);
			encoded += bytes;
		}
	}
	return true;
}
