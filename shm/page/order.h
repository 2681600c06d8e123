/* SPDX-License-Identifier: Apache-2.0
 * The only file that names a memory order. A store that another process relies on, and the load
 * that relies on it, are one of the pairs below. Each use says the pair's number and its name;
 * tools/lint/pairs.sh checks both.
 *
 * PAIR 1: pin before commit
 *   writer: shmeta_store(gen->committing, T), commits LMDB transaction T,
 *           shmeta_store(gen->committed, T), then reads the pins, before it begins transaction T +
 *           1
 *   reader: c = shmeta_load(gen->committed), shmeta_swap(slot->pin, c), makes its view show c or
 *   has
 *           one that already does, then shmeta_load(gen->committed): still c, or it begins again
 *   All are sequentially consistent. When the second load says c, the pin was visible before commit
 *   c + 1 was published, so the writer's next look at the pins sees it; and no commit wrote the
 *   meta page while it was copied. gen->committing is read only where a commit seems stuck between
 *   LMDB and its publication.
 * PAIR 2: touch before commit
 *   writer: shmeta_publish(touched[i], T), before it commits T
 *   reader: begins its snapshot, then shmeta_observe(touched[i])
 *   A reader whose snapshot is T or newer sees the touch; seeing it early only costs a needless
 *   resolve.
 * PAIR 3: a stamp's commit before its time
 *   writer: shmeta_publish(stamp->txn), then shmeta_publish(stamp->synced_at_ns)
 *   reader: shmeta_observe(stamp->synced_at_ns), then shmeta_observe(stamp->txn)
 *   A stamp is never applied to a snapshot that is older than the commit the stamp speaks of.
 * PAIR 4: new generation before retirement
 *   writer: completes a generation's directory, then shmeta_publish(board->generation), then
 *           publishes gen->retired of the old one
 *   reader: shmeta_observe(gen->retired), then shmeta_observe(board->generation), then opens it
 * PAIR 5: revocation before recycling
 *   writer: shmeta_publish(page->revoked), when a registration's connection has closed or its
 *           snapshot is taken back, before pages that only its pins protect are used again
 *   reader: shmeta_observe(page->revoked), at begin, after each lookup and at end
 * PAIR 6: a page within an even sequence
 *   writer: makes page->sequence odd, then shmeta_fence_write(), writes the page, then
 *           shmeta_publish(page->sequence), even
 *   reader: shmeta_observe(page->sequence), copies the page, then shmeta_fence_read(): the sequence
 *           is still the same, and even
 *   Of the stats page and the usage page (seqlock.h).
 * PAIR 7: an event within its number
 *   writer: sets event->number to 0, then shmeta_fence_write(), writes the event, then
 *           shmeta_publish(event->number)
 *   reader: shmeta_observe(event->number), copies the event, then shmeta_fence_read(): the number
 *   is
 *           still the same
 * PAIR 8: a frame before its commit's number
 *   writer: writes a frame, shmeta_publish(journal->head), then shmeta_publish(journal->newest),
 *   before it
 *           publishes the commit
 *   reader: shmeta_observe(journal->newest): not below its snapshot, then
 *   shmeta_observe(journal->head)
 * PAIR 9: tail before what was behind it
 *   writer: shmeta_publish(journal->tail), then shmeta_fence_write(), then writes over the frames
 *   before it reader: shmeta_observe(journal->tail), copies frames, then shmeta_fence_read(): the
 *   tail has not passed
 *           the first of them
 * PAIR 10: a key before its state
 *   reader: takes a free place of a miss, writes the key, then shmeta_publish(miss->state): left
 *   writer: shmeta_observe(miss->state): left, copies the key, then shmeta_publish(miss->state):
 *   free */
#ifndef SHMETA_SHM_PAGE_ORDER_H
#define SHMETA_SHM_PAGE_ORDER_H

#define shmeta_publish(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define shmeta_observe(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define shmeta_store(p, v) __atomic_store_n((p), (v), __ATOMIC_SEQ_CST)
#define shmeta_load(p) __atomic_load_n((p), __ATOMIC_SEQ_CST)
#define shmeta_swap(p, v) ((void)__atomic_exchange_n((p), (v), __ATOMIC_SEQ_CST))
/* Put v where *old is; otherwise *old becomes what is there. */
#define shmeta_replace(p, old, v) __atomic_compare_exchange_n((p), (old), (v), 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)
#define shmeta_peek(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define shmeta_poke(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define shmeta_fence_read() __atomic_thread_fence(__ATOMIC_ACQUIRE)
#define shmeta_fence_write() __atomic_thread_fence(__ATOMIC_RELEASE)

/* Within one process: references, amounts, and bits that stand for a slot that is taken. */
#define shmeta_ref(p) ((void)__atomic_add_fetch((p), 1, __ATOMIC_RELAXED))
/* 1: that was the last one; what others did before they gave theirs up is visible. */
#define shmeta_unref(p) (__atomic_sub_fetch((p), 1, __ATOMIC_ACQ_REL) == 0)
/* The amount that it makes. */
#define shmeta_add(p, n) __atomic_add_fetch((p), (n), __ATOMIC_RELAXED)
#define shmeta_subtract(p, n) ((void)__atomic_sub_fetch((p), (n), __ATOMIC_RELAXED))
/* 1: it was free. */
#define shmeta_take_bit(p, bit) ((__atomic_fetch_or((p), (bit), __ATOMIC_ACQUIRE) & (bit)) == 0)
#define shmeta_give_bit(p, bit) ((void)__atomic_fetch_and((p), ~(bit), __ATOMIC_RELEASE))

#endif
