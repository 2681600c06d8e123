/* SPDX-License-Identifier: Apache-2.0
 * A number that each process draws for itself. Tables whose keys come from clients or from rows of
 * the source are placed by hashes that depend on it: otherwise somebody could choose keys that make
 * one long chain, or two that a table of hashes takes for one. */
#ifndef SHMETA_BASE_SECRET_H
#define SHMETA_BASE_SECRET_H

#include <stdint.h>

uint64_t shmeta__secret(void);
/* Of a number that is known, or can be computed, outside. */
uint64_t shmeta__secret_hash(uint64_t number);

#endif
