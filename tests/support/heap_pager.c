/* SPDX-License-Identifier: Apache-2.0
 * See heap_pager.h. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/support/heap_pager.h"

enum { PAGE = 4096, PAGE_HEADER = 16, FIRST_PAGE = 2 };

static enum shmeta_status heap_alloc(void *arg, size_t bytes, uint64_t *ret_id, uint64_t *ret_locator, void **ret_block)
{
	struct heap_pager *heap = arg;
	uint32_t locator;

	memset(heap->view, 0xee, sizeof heap->view);
	if (bytes != SHMETA_BLOCK_BYTES)
		abort();
	if (!heap->fail_after)
		return SHMETA_ERR_FULL;
	if (heap->fail_after != UINT64_MAX)
		heap->fail_after--;
	if (heap->next_id == heap->capacity) {
		heap->capacity *= 2;
		heap->locators = realloc(heap->locators, heap->capacity * sizeof *heap->locators);
		heap->free_list = realloc(heap->free_list, heap->capacity * sizeof *heap->free_list);
		if (!heap->locators || !heap->free_list)
			abort();
	}
	if (heap->free_count) {
		locator = heap->free_list[--heap->free_count];
	} else {
		locator = (uint32_t)(heap->pages.bytes / PAGE);
		heap->pages.bytes += PAGE;
		if (heap->pages.bytes > heap->reserved)
			abort();
	}
	heap->locators[heap->next_id] = locator;
	heap->live++;
	heap->allocs++;
	*ret_id = heap->next_id++;
	*ret_locator = locator;
	*ret_block = (void *)(uintptr_t)(heap->pages.base + (uint64_t)locator * PAGE + PAGE_HEADER);
	memset(*ret_block, 0xcc, SHMETA_BLOCK_BYTES);
	return SHMETA_OK;
}

static enum shmeta_status heap_release(void *arg, uint64_t id)
{
	struct heap_pager *heap = arg;

	memset(heap->view, 0xee, sizeof heap->view);
	if (id >= heap->next_id || !heap->locators[id])
		return SHMETA_ERR_CORRUPT;
	memset((void *)(uintptr_t)(heap->pages.base + (uint64_t)heap->locators[id] * PAGE), 0xdd, PAGE);
	heap->free_list[heap->free_count++] = heap->locators[id];
	heap->locators[id] = 0;
	heap->live--;
	heap->releases++;
	return SHMETA_OK;
}

static enum shmeta_status heap_at(void *arg, uint64_t id, const void **ret_block, size_t *ret_bytes)
{
	struct heap_pager *heap = arg;

	if (id >= heap->next_id || !heap->locators[id])
		return SHMETA_ERR_CORRUPT;
	memcpy(heap->view, heap->pages.base + (uint64_t)heap->locators[id] * PAGE + PAGE_HEADER, sizeof heap->view);
	*ret_block = heap->view;
	*ret_bytes = sizeof heap->view;
	return SHMETA_OK;
}

void heap_pager_init(struct heap_pager *heap)
{
	void *base;

	memset(heap, 0, sizeof *heap);
	heap->reserved = UINT64_C(4) << 30;
	base = mmap(NULL, heap->reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED)
		abort();
	heap->pages = (struct shmeta__pages){.base = base, .bytes = FIRST_PAGE * PAGE, .page_bytes = PAGE};
	heap->pager = (struct shmeta__pager){heap, heap_alloc, heap_release, heap_at};
	heap->capacity = 64;
	heap->locators = calloc(heap->capacity, sizeof *heap->locators);
	heap->free_list = calloc(heap->capacity, sizeof *heap->free_list);
	if (!heap->locators || !heap->free_list)
		abort();
	heap->next_id = 1;
	heap->fail_after = UINT64_MAX;
}

void heap_pager_free(struct heap_pager *heap)
{
	munmap((void *)(uintptr_t)heap->pages.base, heap->reserved);
	free(heap->locators);
	free(heap->free_list);
	memset(heap, 0, sizeof *heap);
}
