/* SPDX-License-Identifier: Apache-2.0
 * What the writer counts: C(name, kind, unit, help). A line makes the field that counts, the row of
 * the stats page and its name in JSON; tools name a counter by SHMETA_COUNTER_... */
#ifndef SHMETA_SHM_PAGE_COUNTERS_H
#define SHMETA_SHM_PAGE_COUNTERS_H

/* Of the server of control.sock. */
#define SHMETA_CONTROL_COUNTERS(C)                                                                      \
	C(connections, "gauge", "connections", "open connections")                                      \
	C(registrations, "gauge", "processes", "registered processes, those in their grace included")   \
	C(accepted, "counter", "connections", "connections accepted")                                   \
	C(refused, "counter", "connections", "connections refused because a limit was reached")         \
	C(bad_frames, "counter", "frames", "frames that did not parse; each closed its connection")     \
	C(silent, "counter", "connections", "connections closed because they stayed silent or idle")    \
	C(unread, "counter", "connections", "connections closed because they did not read the answers") \
	C(frames, "counter", "frames", "frames received")                                               \
	C(denied, "counter", "requests", "requests that the peer may not make")                         \
	C(reloads, "counter", "reloads", "configurations taken over")                                   \
	C(reloads_refused, "counter", "reloads", "configurations refused")                              \
	C(snapshots_revoked, "counter", "processes", "registered processes whose snapshots were revoked")

/* Of the sync engine. */
#define SHMETA_SYNC_COUNTERS(C)                                                                         \
	C(loads, "counter", "loads", "full loads completed")                                            \
	C(reconciles, "counter", "passes", "full reconciles completed")                                 \
	C(reconcile_repairs, "counter", "rows", "differences that only a reconcile found")              \
	C(polls, "counter", "polls", "times the change feed was asked")                                 \
	C(changes, "counter", "keys", "keys that the change feed named")                                \
	C(refresh_requests, "counter", "requests", "refreshes asked for by readers")                    \
	C(refresh_coalesced, "counter", "requests", "requests that joined one already queued")          \
	C(refresh_keys, "counter", "keys", "keys fetched")                                              \
	C(fetches, "counter", "calls", "bulk fetches")                                                  \
	C(commits, "counter", "commits", "store commits")                                               \
	C(rows_applied, "counter", "rows", "rows added, altered or removed")                            \
	C(rows_unchanged, "counter", "rows", "rows compared and found equal")                           \
	C(write_batches, "counter", "commits", "group commits to the source")                           \
	C(write_ops, "counter", "operations", "operations that reached the source")                     \
	C(write_source_ns, "counter", "nanoseconds", "time spent committing to the source")             \
	C(quarantined, "gauge", "rows", "rows of the source that cannot be served, now")                \
	C(source_errors, "counter", "errors", "calls that the source failed")                           \
	C(store_full, "counter", "times", "commits given up because the store was full")                \
	C(generations, "counter", "generations", "generations built")                                   \
	C(queue_depth, "gauge", "keys", "keys waiting to be fetched")                                   \
	C(topics, "gauge", "topics", "topics in the store")                                             \
	C(partitions, "gauge", "partitions", "partitions in the store")                                 \
	C(segments, "gauge", "segments", "segments in the store")                                       \
	C(store_used, "gauge", "bytes", "bytes of the store in use")                                    \
	C(store_limit, "gauge", "bytes", "store.max_bytes")                                             \
	C(source_queries, "counter", "statements", "statements run on the source")                      \
	C(source_rows, "counter", "rows", "rows read from the source")                                  \
	C(lag_ns, "gauge", "nanoseconds", "age of what the change feed has told")                       \
	C(apply_ns, "counter", "nanoseconds", "time spent committing")                                  \
	C(fetch_ns, "counter", "nanoseconds", "time spent reading the source")                          \
	C(absent_answers, "counter", "requests", "requests answered by what was just found absent")     \
	C(absent_known, "gauge", "keys", "keys remembered as absent")                                   \
	C(reconciles_lagged, "counter", "passes", "of the reconciles those that read from followers")   \
	C(quarantine_entered, "counter", "rows", "rows that were quarantined")                          \
	C(store_pinned, "gauge", "bytes", "bytes of the store that are free, but kept for readers")     \
	C(evicted_topics, "counter", "topics", "topics evicted for the budgets")                        \
	C(evicted_partitions, "counter", "partitions", "partitions evicted for the budgets")            \
	C(feed_skipped, "counter", "keys", "keys of the feed that were not read")                       \
	C(read_units_load, "counter", "units", "units read from DynamoDB to compare everything")        \
	C(read_units_fetch, "counter", "units", "units read from DynamoDB by key")                      \
	C(read_units_feed, "counter", "units", "units read from DynamoDB to follow changes")            \
	C(read_units_write, "counter", "units", "units read from DynamoDB to judge operations")         \
	C(write_units, "counter", "units", "units written to DynamoDB")                                 \
	C(throttled, "counter", "calls", "calls that DynamoDB throttled")                               \
	C(postponed_ns, "counter", "nanoseconds", "how long reads and writes waited for their budgets") \
	C(postponed, "gauge", "percent", "of the last ten seconds in which they waited for budgets")    \
	C(missed, "counter", "keys", "keys that lookups met unknown and had loaded")                    \
	C(missed_dropped, "counter", "keys", "keys that lookups met unknown and there was no room for") \
	C(queue_age_ns, "gauge", "nanoseconds", "how long the oldest key has waited")                   \
	C(source_clock_off_ns, "gauge", "nanoseconds", "the source's clock is off by, from 1 s on")     \
	C(snapshot_file_lag, "gauge", "percent", "age of the snapshot file, of warm.interval")          \
	C(bounded_over, "gauge", "bytes", "bytes over bounded.max_bytes that must stay")                \
	C(too_large, "counter", "partitions", "partitions read that exceed bounded.max_segment_bytes")  \
	C(pressure, "gauge", "level", "bounded store: 0 normal, 1 elevated, 2 high, 3 critical")        \
	C(relieved, "counter", "partitions", "partitions evicted for the pressure, not for the budgets")

/* The order of the writer's stats page: appended to, never changed. Another version of the writer
 * may have other counters, so they are found by name. */
enum shmeta_counter {
#define C(name, kind, unit, help) SHMETA_COUNTER_##name,
	SHMETA_CONTROL_COUNTERS(C) SHMETA_SYNC_COUNTERS(C)
#undef C
		SHMETA_COUNTER_COUNT
};

#endif
