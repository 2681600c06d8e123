/* SPDX-License-Identifier: Apache-2.0
 * Ids for operations that may have to be sent again. */
#include <sys/random.h>

#include "include/shmeta.h"

enum shmeta_status shmeta_request_id(uint64_t ret_id[2])
{
	const size_t bytes = 2 * sizeof *ret_id;

	if (ret_id == NULL)
		return SHMETA_ERR_INVALID_ARGUMENT;
	if (getrandom(ret_id, bytes, GRND_NONBLOCK) == (ssize_t)bytes)
		return SHMETA_OK;
	ret_id[0] = ret_id[1] = 0;
	return SHMETA_ERR_SYSTEM;
}
