/* SPDX-License-Identifier: Apache-2.0
 * Options that outlive the call that brought them. */
#include <stdlib.h>
#include <string.h>

#include "backends/backend.h"

/* Every string of the options. */
#define TEXTS(X) X(uri) X(read_uri) X(password_file)

int backend_options_copy(const struct backend_options *from, struct backend_options *ret)
{
	int good = 1;

	*ret = *from;
#define X(name)                                                     \
	ret->name = from->name != NULL ? strdup(from->name) : NULL; \
	good &= from->name == NULL || ret->name != NULL;
	TEXTS(X)
#undef X
	if (!good)
		backend_options_free(ret);
	return good;
}

void backend_options_free(struct backend_options *options)
{
#define X(name)                                                               \
	if (options->name != NULL) /* it may hold a password */               \
		explicit_bzero((char *)options->name, strlen(options->name)); \
	free((char *)options->name);                                          \
	options->name = NULL;
	TEXTS(X)
#undef X
}
