/* SPDX-License-Identifier: Apache-2.0
 * Which boot of the machine this is. */
#ifndef SHMETA_TESTS_SUPPORT_BOOT_ID_H
#define SHMETA_TESTS_SUPPORT_BOOT_ID_H

#include <stdint.h>

/* As it stands on boards and in stores; what /proc does not say is left as it is. */
void boot_id_read(uint8_t ret[16]);

#endif
