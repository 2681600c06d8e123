/* SPDX-License-Identifier: Apache-2.0
 * A pager for shmeta__part_edit_*() without a store. Unforgiving: a released block is overwritten
 * at once, a view that the pager gave is overwritten by the next call, every block is counted. */
#ifndef SHMETA_TESTS_SUPPORT_HEAP_PAGER_H
#define SHMETA_TESTS_SUPPORT_HEAP_PAGER_H

#include "shm/index/part.h"

struct heap_pager {
	struct shmeta__pager pager;
	struct shmeta__pages pages;
	uint64_t reserved;   /* bytes of address space */
	uint64_t next_id;    /* ids count up; a block's page is found by its id */
	uint32_t *locators;  /* by id; 0: released */
	uint32_t *free_list; /* pages to be used again */
	uint64_t free_count, capacity, live;
	uint64_t allocs, releases;
	uint64_t fail_after; /* this many allocations succeed, then ERR_FULL; UINT64_MAX: all */
	uint8_t view[SHMETA_BLOCK_BYTES];
};

void heap_pager_init(struct heap_pager *heap); /* aborts without memory */
void heap_pager_free(struct heap_pager *heap);

#endif
