/* SPDX-License-Identifier: Apache-2.0
 * Items that were read (ddb_ledger.h). */
#include "backends/dynamodb/ddb_ledger.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/secret.h"

void ddb_ledger_free(struct ddb_ledger *l)
{
	for (size_t i = 0; i < l->count; i++) {
		json_decref(l->entries[i]->base);
		json_decref(l->entries[i]->sent);
		json_decref(l->entries[i]->item);
		json_decref(l->entries[i]->before);
		free(l->entries[i]);
	}
	free(l->entries);
	free(l->slots);
	memset(l, 0, sizeof *l);
}

static uint64_t hash_of(enum ddb_table table, const char *pk, const char *sk)
{
	uint64_t hash = hash_bytes(hash_byte(HASH_FIRST ^ shmeta__secret(), (uint8_t)table), pk, strlen(pk));

	return shmeta__secret_hash(hash_bytes(hash_byte(hash, 0), sk, strlen(sk)));
}

/* Where it is, or would be. */
static size_t *slot_of(struct ddb_ledger *l, enum ddb_table table, const char *pk, const char *sk)
{
	size_t at = hash_of(table, pk, sk) & (l->slot_count - 1);

	for (;; at = (at + 1) & (l->slot_count - 1)) {
		const struct ddb_entry *e = l->slots[at] > 0 ? l->entries[l->slots[at] - 1] : NULL;

		if (e == NULL || (e->key.table == table && strcmp(e->key.pk, pk) == 0 && strcmp(e->key.sk, sk) == 0))
			return &l->slots[at];
	}
}

static bool grow(struct ddb_ledger *l)
{
	size_t capacity = l->capacity == 0 ? 256 : l->capacity * 2;
	struct ddb_entry **entries = reallocarray(l->entries, capacity, sizeof(struct ddb_entry *));
	size_t *slots = entries != NULL ? calloc(capacity * 2, sizeof *slots) : NULL;

	if (entries != NULL)
		l->entries = entries;
	if (slots == NULL)
		return false;
	free(l->slots);
	l->slots = slots;
	l->slot_count = capacity * 2;
	l->capacity = capacity;
	for (size_t i = 0; i < l->count; i++)
		*slot_of(l, entries[i]->key.table, entries[i]->key.pk, entries[i]->key.sk) = i + 1;
	return true;
}

/* The entry, made where there is none. NULL: no memory. */
static struct ddb_entry *entry_of(struct ddb_ledger *l, const struct ddb_key *key)
{
	struct ddb_entry *e;
	size_t *slot;

	if (l->count == l->capacity && !grow(l)) {
		l->no_memory = true;
		return NULL;
	}
	slot = slot_of(l, key->table, key->pk, key->sk);
	if (*slot == 0) {
		e = calloc(1, sizeof *e);
		if (e == NULL) {
			l->no_memory = true;
			return NULL;
		}
		e->key = *key;
		e->known = key->impossible; /* and not there */
		l->entries[l->count++] = e;
		*slot = l->count;
	}
	return l->entries[*slot - 1];
}

struct ddb_entry *ddb_ledger_get(struct ddb_ledger *l, const struct ddb_key *key)
{
	struct ddb_entry *e = entry_of(l, key);

	l->met_throttled |= e != NULL && e->throttled;
	if (e == NULL || e->key.impossible || (e->known && !e->blind))
		return e;
	e->known = e->blind = false;
	e->wanted = true;
	l->missing = true;
	return NULL;
}

struct ddb_entry *ddb_ledger_blind(struct ddb_ledger *l, const struct ddb_key *key)
{
	struct ddb_entry *e = entry_of(l, key);

	l->met_throttled |= e != NULL && e->throttled;
	if (e != NULL && !e->known && !e->wanted)
		e->known = e->blind = true;
	if (e != NULL && e->known)
		return e;
	l->missing = true; /* it is read for another step */
	return NULL;
}

void ddb_ledger_prime(struct ddb_ledger *l, const struct ddb_key *key, json_t *item)
{
	struct ddb_entry *e = entry_of(l, key);

	if (e == NULL || e->known)
		return;
	e->known = true;
	e->wanted = false;
	e->base = json_incref(item);
	e->sent = json_incref(item);
	e->item = json_incref(item);
}

void ddb_ledger_rewind(struct ddb_ledger *l)
{
	l->missing = false;
	for (size_t i = 0; i < l->count; i++) {
		struct ddb_entry *e = l->entries[i];

		json_decref(e->sent);
		json_decref(e->item);
		json_decref(e->before);
		e->before = NULL;
		e->in_unit = false;
		e->sent = json_incref(e->base);
		e->item = json_incref(e->base);
		e->touch = DDB_NONE;
		e->writer = e->checker = 0;
	}
}

/* ---- reading ---- */

enum { KEYS_PER_CALL = 100 };

static json_t *get_body(void)
{
	return json_pack("{s:{}, s:s}", "RequestItems", "ReturnConsumedCapacity", "TOTAL");
}

static void add_key(const struct ddb_state *s, json_t *body, const struct ddb_key *key)
{
	json_t *items = json_object_get(body, "RequestItems");
	const char *name = s->link.uri.table[key->table];
	json_t *of = json_object_get(items, name);

	if (of == NULL) {
		of = json_pack("{s:b, s:[]}", "ConsistentRead", 1, "Keys");
		(void)json_object_set_new(items, name, of);
	}
	(void)json_array_append_new(json_object_get(of, "Keys"), ddb_item_of(key));
}

static void take_items(const struct ddb_state *s, struct ddb_ledger *l, const json_t *answer)
{
	json_t *responses = json_object_get(answer, "Responses"), *items, *item;
	const char *name;
	size_t i;

	json_object_foreach(responses, name, items)
	{
		enum ddb_table table = DDB_META;

		while (table < DDB_TABLES && strcmp(s->link.uri.table[table], name) != 0)
			table++;
		if (table == DDB_TABLES)
			continue;
		json_array_foreach(items, i, item)
		{
			size_t *slot = slot_of(l, table, ddb_text(item, "pk"), ddb_text(item, "sk"));

			if (*slot > 0 && l->entries[*slot - 1]->base == NULL)
				l->entries[*slot - 1]->base = json_incref(item);
		}
	}
}

static size_t keys_in(const json_t *request)
{
	const char *name;
	json_t *of;
	size_t count = 0;

	json_object_foreach((json_t *)request, name, of) count += json_array_size(json_object_get(of, "Keys"));
	return count;
}

static void set_throttled(const struct ddb_state *s, struct ddb_ledger *l, const json_t *request)
{
	const char *name;
	json_t *of, *key;
	size_t i;

	json_object_foreach((json_t *)request, name, of)
	{
		json_array_foreach(json_object_get(of, "Keys"), i, key)
		{
			for (size_t t = 0; t < DDB_TABLES; t++) {
				size_t *slot = slot_of(l, (enum ddb_table)t, ddb_text(key, "pk"), ddb_text(key, "sk"));

				if (strcmp(s->link.uri.table[t], name) == 0 && *slot > 0)
					l->entries[*slot - 1]->throttled = true;
			}
		}
	}
}

/* OK where that is the affair of the call's items alone. */
static enum shmeta_status throttled(const struct ddb_state *s, struct ddb_ledger *l, struct ddb_call *call,
                                    struct backend_error *err)
{
	enum shmeta_status status;

	call->throttled = true;
	if (call->outcome == DDB_DONE)
		(void)snprintf(call->error, sizeof call->error, "throttled: no item was processed");
	status = ddb_call_fail(&s->link, call, "reading items", err);
	if (!l->tolerant)
		return status;
	set_throttled(s, l, json_object_get(call->body, "RequestItems"));
	return SHMETA_OK;
}

/* *ret_rest: what is to be asked for again. It may be what did not fit into the answer, so only a
 * call of which nothing was processed counts as throttled. */
static enum shmeta_status take_answer(const struct ddb_state *s, struct ddb_ledger *l, struct ddb_call *call,
                                      json_t **ret_rest, struct backend_error *err)
{
	json_t *rest = json_object_get(call->answer, "UnprocessedKeys");

	if (call->outcome != DDB_DONE)
		return ddb_call_kept_back(&s->link, call) ? throttled(s, l, call, err)
		                                          : ddb_call_fail(&s->link, call, "reading items", err);
	take_items(s, l, call->answer);
	if (keys_in(rest) > 0 && ddb_link_gives_up(&s->link) &&
	    keys_in(rest) == keys_in(json_object_get(call->body, "RequestItems")))
		return throttled(s, l, call, err);
	*ret_rest = json_object_size(rest) > 0 ? rest : NULL;
	return SHMETA_OK;
}

enum shmeta_status ddb_ledger_read(struct ddb_state *s, struct ddb_ledger *l, struct backend_error *err)
{
	enum shmeta_status status = SHMETA_OK;
	struct ddb_call *calls;
	size_t wanted = 0, made = 0;

	for (size_t i = 0; i < l->count; i++)
		wanted += l->entries[i]->wanted;
	calls = calloc(wanted / KEYS_PER_CALL + 1, sizeof *calls);
	if (calls == NULL)
		return backend_fail(err, SHMETA_ERR_NO_MEMORY, "dynamodb: out of memory");
	for (size_t i = 0, in_call = KEYS_PER_CALL; i < l->count; i++) {
		if (!l->entries[i]->wanted)
			continue;
		if (in_call == KEYS_PER_CALL) {
			calls[made++] = (struct ddb_call){.target = "BatchGetItem", .body = get_body()};
			in_call = 0;
		}
		add_key(s, calls[made - 1].body, &l->entries[i]->key);
		in_call++;
	}
	/* What a call left unprocessed is the next round's, without end before the deadline. */
	for (size_t open = made; status == SHMETA_OK && open > 0;) {
		size_t left = 0;

		ddb_link_run(&s->link, calls, open, s->deadline_ns);
		s->reads += open;
		for (size_t i = 0; i < open; i++) {
			json_t *rest = NULL;

			if (status == SHMETA_OK)
				status = take_answer(s, l, &calls[i], &rest, err);
			if (rest != NULL && json_object_set(calls[i].body, "RequestItems", rest) == 0) {
				json_t *body = calls[i].body;

				ddb_call_free(&calls[i]);
				calls[i].body = NULL;
				calls[left++] = (struct ddb_call){.target = "BatchGetItem", .body = body};
			} else {
				ddb_call_free(&calls[i]);
				json_decref(calls[i].body);
				calls[i].body = NULL;
			}
		}
		open = left;
		if (open > 0)
			ddb_link_pause(&s->link, 1, s->deadline_ns);
		if (status != SHMETA_OK)
			for (size_t i = 0; i < open; i++)
				json_decref(calls[i].body);
	}
	free(calls);
	for (size_t i = 0; status == SHMETA_OK && i < l->count; i++) {
		l->entries[i]->known |= l->entries[i]->wanted;
		l->entries[i]->wanted = false;
	}
	return status;
}

enum shmeta_status ddb_ledger_look(struct ddb_state *s, struct ddb_ledger *l, const struct ddb_key *key,
                                   const json_t **ret, struct backend_error *err)
{
	struct ddb_entry *e = ddb_ledger_get(l, key);
	enum shmeta_status status = e == NULL ? ddb_ledger_read(s, l, err) : SHMETA_OK;

	e = ddb_ledger_get(l, key);
	*ret = e != NULL ? e->base : NULL;
	return e == NULL && status == SHMETA_OK ? backend_fail(err, SHMETA_ERR_NO_MEMORY, "dynamodb: out of memory")
	                                        : status;
}
