/* SPDX-License-Identifier: Apache-2.0
 * What the library takes public structs to be. */
#include <string.h>

#include "include/shmeta.h"

size_t shmeta_sizeof(const char *name)
{
	if (name == NULL)
		return 0;
#define SHMETA_X(type)                          \
	if (strcmp(name, "shmeta_" #type) == 0) \
		return sizeof(struct shmeta_##type);
	SHMETA_STRUCT_LIST(SHMETA_X)
#undef SHMETA_X
	return 0;
}
