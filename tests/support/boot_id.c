/* SPDX-License-Identifier: Apache-2.0
 * The id of this boot. */
#include "tests/support/boot_id.h"

#include <stdio.h>

void boot_id_read(uint8_t ret[16])
{
	FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");
	unsigned int byte;

	for (int i = 0; f != NULL && i < 16; i++) {
		if (fscanf(f, "%2x", &byte) != 1)
			break;
		ret[i] = (uint8_t)byte;
		if (i == 3 || i == 5 || i == 7 || i == 9)
			(void)fgetc(f);
	}
	if (f != NULL)
		(void)fclose(f);
}
