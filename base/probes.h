/* SPDX-License-Identifier: Apache-2.0
 * Probes for tracers: one instruction that does nothing (nop) each until somebody traces, as with
 * bpftrace (examples/probes.bt). Where <sys/sdt.h> is missing there are none. Owns: their names and
 * arguments, which are as lasting as those of the library. */
#ifndef SHMETA_BASE_PROBES_H
#define SHMETA_BASE_PROBES_H

#if defined(__has_include)
#if __has_include(<sys/sdt.h>) && !defined(SHMETA_NO_PROBES)
#include <sys/sdt.h>
#define SHMETA_HAS_PROBES 1
#endif
#endif

#ifdef SHMETA_HAS_PROBES
/* A snapshot was begun: of this commit. In the agent. */
#define shmeta_probe_begin(number) DTRACE_PROBE1(shmeta, begin, number)
/* A lookup was answered: enum shmeta_status; the commit that it shows. In the agent. */
#define shmeta_probe_find(status, number) DTRACE_PROBE2(shmeta, find, status, number)
/* The store got a commit: its number, and the rows that it changed. In the daemon. */
#define shmeta_probe_commit(number, rows) DTRACE_PROBE2(shmeta, commit, number, rows)
/* Keys were read from the source: how many, enum shmeta_status, and the nanoseconds that it took.
 * In the daemon. */
#define shmeta_probe_fetch(keys, status, ns) DTRACE_PROBE3(shmeta, fetch, keys, status, ns)
/* Records were chosen to leave a bounded store: how many. In the daemon. */
#define shmeta_probe_evict(records) DTRACE_PROBE1(shmeta, evict, records)
#else
#define shmeta_probe_begin(number) ((void)(number))
#define shmeta_probe_find(status, number) ((void)(status), (void)(number))
#define shmeta_probe_commit(number, rows) ((void)(number), (void)(rows))
#define shmeta_probe_fetch(keys, status, ns) ((void)(keys), (void)(status), (void)(ns))
#define shmeta_probe_evict(records) ((void)(records))
#endif

#endif
