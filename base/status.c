/* SPDX-License-Identifier: Apache-2.0
 * Texts of statuses, and the version. */
#include "include/shmeta.h"

const char *shmeta_strerror(enum shmeta_status status)
{
	/* No default: the compiler finds a status without a text. */
	switch (status) {
#define SHMETA_X(name, number, text) \
	case SHMETA_##name:          \
		return text;
		SHMETA_STATUS_LIST(SHMETA_X)
#undef SHMETA_X
	}
	return "unknown status";
}

const char *shmeta_version(void)
{
	return SHMETA_VERSION_STRING;
}
