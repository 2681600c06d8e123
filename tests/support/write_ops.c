/* SPDX-License-Identifier: Apache-2.0
 * Operations of a test for the engine's queue of writes. */
#include "tests/support/write_ops.h"

#include <stdlib.h>

#include "shm/wire/op.h"

enum shmeta_status write_ops(struct sync *sync, struct shmeta_str tenant, const struct shmeta_op *ops, size_t count,
                             uint64_t deadline_ns, uint32_t uid, uint64_t connection, const char *who, uint64_t ticket)
{
	size_t bytes = 0, at = 0;
	enum shmeta_status status;
	char *encoded;

	for (size_t i = 0; i < count; i++)
		bytes += shmeta__op_bytes(&ops[i]);
	encoded = malloc(bytes);
	if (encoded == NULL)
		return SHMETA_ERR_NO_MEMORY;
	for (size_t i = 0; i < count; i++)
		at += shmeta__op_encode(&ops[i], encoded + at, bytes - at);
	status = sync_write(sync, &(struct sync_write){.tenant = tenant,
	                                               .ops = encoded,
	                                               .bytes = at,
	                                               .count = count,
	                                               .deadline_ns = deadline_ns,
	                                               .uid = uid,
	                                               .connection = connection,
	                                               .who = who,
	                                               .ticket = ticket});
	free(encoded);
	return status;
}
