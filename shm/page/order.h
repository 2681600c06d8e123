/* SPDX-License-Identifier: Apache-2.0
 * The only file that names a memory order. Every store that another process relies on, and the load that relies on it, is one
 * of the numbered pairs below; both sides quote the number.
 *
 * PAIR 1  writer: shmeta_store(gen->committing, T)  then commits LMDB transaction T  then shmeta_store(gen->committed, T)
 *                 then reads the pins, before it begins transaction T + 1
 *         reader: c = shmeta_load(gen->committed)  then shmeta_swap(slot->pin, c)  then makes its transaction show c, or has one
 *                 that did when it was last accepted  then shmeta_load(gen->committed): still c, or it begins again
 *         All are sequentially consistent: when the second load says c, the pin was there before commit c + 1 was published, so
 *         the writer's next look at the pins sees it; and no commit wrote the meta page while it was copied. gen->committing
 *         is read only where a commit seems stuck between LMDB and its publication.
 * PAIR 2  writer: shmeta_publish(touched[i], T)     before it commits T
 *         reader: begins its snapshot, then shmeta_observe(touched[i])
 *         A reader whose snapshot is T or newer sees the touch; seeing it early only costs a needless resolve.
 * PAIR 3  writer: shmeta_publish(stamp->txn), then shmeta_publish(stamp->synced_at_ns)
 *         reader: shmeta_observe(stamp->synced_at_ns), then shmeta_observe(stamp->txn)
 *         A stamp is never applied to a snapshot that is older than the commit the stamp speaks of.
 * PAIR 4  writer: completes a generation's directory, then shmeta_publish(board->generation), then publishes gen->retired of
 *                 the old one
 *         reader: shmeta_observe(gen->retired), then shmeta_observe(board->generation), then opens it
 * PAIR 5  writer: shmeta_publish(page->revoked)     when a registration's connection has closed, or its snapshot is taken back
 *         reader: shmeta_observe(page->revoked)     at begin and at end
 * PAIR 6  seqlock of the stats file: stats->sequence is odd while the writer writes.
 */
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

#endif
