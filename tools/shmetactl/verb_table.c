/* SPDX-License-Identifier: Apache-2.0
 * The table of verbs. */
#include "tools/shmetactl/tool.h"

#define OPT(name) (UINT64_C(1) << TOOL_OPT_##name)
#define SOURCE_OPTS (OPT(SOURCE) | OPT(PASSWORD_FILE))
#define REPEAT_OPTS (OPT(EVERY) | OPT(COUNT))
#define LIST_OPTS (OPT(PREFIX) | OPT(GLOB) | OPT(LIMIT) | OPT(AFTER))

static const struct verb verbs[] = {
	{"status", "", 0, 0, OPT(ALL_INSTANCES), 'A',
         "the writer, how fresh each class is, source, readers and store, in 13 lines",
         "Exits 1 when the writer is dead or the cache is degraded.\n  shmetactl status\n  shmetactl status --json | jq .phase",
         verb_status},
	{"health", "", 0, 0, OPT(ALL_INSTANCES), 'A',
         "what is not well, and the command that helps; exits as a monitoring plug-in",
         "Exits 0 when all is well, 1 on a warning, 2 when something is critical, 3 when it is not known.\n"
         "  shmetactl health\n  shmetactl health --json | jq -r '.checks[] | select(.status != \"ok\") | .command'",
         verb_health},
	{"stat", "", 0, 0, REPEAT_OPTS | OPT(LIST) | OPT(GLOB) | OPT(ALL_INSTANCES), 'A',
         "every counter and measurement, and what happens a second; -l with unit and meaning",
         "Counters begin anew with the writer; without --every, rates are averages since then.\n"
         "  shmetactl stat -l --glob 'reader_*'\n  shmetactl stat --every 1s --count 10\n"
         "  shmetactl stat --json | jq '.metrics[] | select(.name == \"lag_ns\").value'",
         verb_stat},
	{"top", "", 0, 0, OPT(EVERY) | OPT(COUNT), 'A', "a live view: classes, counters, readers, lookups, health",
         "Keys: 1 to 5 choose a view, h lists all keys, q quits.\n  shmetactl top\n  shmetactl top --every 500ms",
         verb_top},
	{"lag", "", 0, 0, OPT(ALL_INSTANCES), 'A',
         "how far each class is behind the source, and how its changes arrive",
         "  shmetactl lag\n  shmetactl lag --json | jq '.classes[] | {class, state, age_ms}'", verb_lag},
	{"queue", "", 0, 0, OPT(ALL_INSTANCES), 'A', "what waits for the source, and what the way to it costs",
         "  shmetactl queue --json | jq .keys_waiting", verb_queue},
	{"events", "", 0, 0, OPT(FOLLOW) | OPT(BY) | OPT(GLOB) | OPT(LIMIT) | OPT(COUNT), 'A',
         "what the writer did lately: commits, reads, the feed, writes, passes, the log; -f goes on",
         "--by: kinds, with commas: commit, fetch, feed, write, pass, log. --glob: of the text. 20, or --limit.\n"
         "  shmetactl events -f --by commit,write\n  shmetactl events -f --by fetch --glob '*orders*' --json",
         verb_events},
	{"hist", "[WHAT]", 0, 1, OPT(ALL_INSTANCES), 'A',
         "how long lookups took, or what the writer did lately, as a histogram",
         "WHAT: lookup (sampled, of all readers, since the writer started), commit, fetch, feed, write or pass (the newest ones,\n"
         "exactly).\n  shmetactl hist\n  shmetactl hist write --json | jq '.\"p99\"'",
         verb_hist},
	{"slow", "", 0, 0, OPT(BY) | OPT(LIMIT), 'A',
         "the slowest calls of the source and commits of the store, of the last hour",
         "--by: source or commits. 10 of each, or --limit; of each minute the 4 slowest are kept.\n  shmetactl slow --by source",
         verb_slow},
	{"clients", "", 0, 0, OPT(ALL_INSTANCES), 'A', "connections of the control socket, by user",
         "  shmetactl clients --json", verb_clients},
	{"biggest", "", 0, 0, OPT(LIMIT) | OPT(PREFIX) | OPT(GLOB) | OPT(BY), 'A',
         "the topics with the most bytes or segments",
         "--by: bytes (the default) or segments. 20 topics, or --limit.\n  shmetactl biggest --by segments --limit 5",
         verb_biggest},
	{"hot", "", 0, 0, OPT(LIMIT), 'A', "the keys that this host's processes look up most",
         "Of the samples that processes leave, one of 1024 lookups of a thread, in about the last minutes. 20 keys, or --limit; 250\n"
         "are kept.\n  shmetactl hot\n  shmetactl hot --json | jq -r '.items[] | \"\\(.topic)/\\(.partition_id) \\(.share_percent)\"'",
         verb_hot},
	{"advise", "", 0, 0, 0, 'A', "what to change in the configuration, why, and with which effect",
         "From what the writer counts and from the miss-ratio curve of this host's lookups, which is printed, too. Changes nothing.\n"
         "  shmetactl advise\n  shmetactl advise --json | jq -r '.advice[].change'",
         verb_advise},
	{"explain", "KIND TOPIC [PARTITION [OFFSET]]", 2, 4, 0, 'A',
         "why a lookup of a key answers what it answers, and when the key is read again",
         "KIND: topic TOPIC, partition TOPIC PARTITION, or segment TOPIC PARTITION OFFSET. Exits 5 when it is absent.\n"
         "  shmetactl explain partition orders 0\n  shmetactl explain segment orders 0 15000 --json",
         verb_explain},
	{"ls topics", "", 0, 0, LIST_OPTS, 'A', "topics by name",
         "  shmetactl ls topics --prefix orders.\n  shmetactl ls topics --limit 100 --after orders.17", verb_ls_topics},
	{"ls partitions", "TOPIC", 1, 1, OPT(LIMIT) | OPT(AFTER), 'A', "partitions of a topic by id",
         "  shmetactl ls partitions orders --after 99", verb_ls_partitions},
	{"ls segments", "TOPIC PARTITION", 2, 2, OPT(LIMIT) | OPT(AFTER), 'A', "segments of a partition by base offset",
         "  shmetactl ls segments orders 0 --after 149999 --limit 20", verb_ls_segments},
	{"get topic", "TOPIC", 1, 1, 0, 'A', "one topic, its sums, and how old the answer is",
         "  shmetactl get topic orders\n  shmetactl get topic orders --json", verb_get_topic},
	{"get partition", "TOPIC PARTITION", 2, 2, 0, 'A', "one partition, and how old the answer is",
         "  shmetactl get partition orders 0", verb_get_partition},
	{"find", "TOPIC PARTITION OFFSET", 3, 3, 0, 'A', "the segment that holds an offset, or why there is none",
         "Exits 5 when the offset is before the log start, in a gap, or at the end.\n  shmetactl find orders 0 15000",
         verb_find},
	{"readers", "", 0, 0, OPT(LIMIT) | OPT(ALL_INSTANCES), 'A',
         "registered processes, oldest snapshot first, and what they did",
         "  shmetactl readers\n  shmetactl readers --json", verb_readers},
	{"store", "", 0, 0, OPT(STORE), 'A', "limit, use, free pages and entries of the store",
         "  shmetactl store\n  shmetactl store --store /backup/store.3", verb_store},
	{"quarantine", "", 0, 0, OPT(LIMIT), 'A', "rows of the source that cannot be served, since when, and why",
         "A row leaves the list when it is good again or gone.\n  shmetactl quarantine\n"
         "  shmetactl quarantine --json | jq -r '.items[].reason'",
         verb_quarantine},
	{"groups", "", 0, 0, 0, 'A', "consumer groups, as advisory records", "  shmetactl groups", verb_groups},
	{"agents", "", 0, 0, 0, 'A', "agents, as advisory records, and which of them live", "  shmetactl agents --json",
         verb_agents},
	{"leases", "", 0, 0, 0, 'A', "partition leases, as advisory records, expired ones included",
         "  shmetactl leases", verb_leases},
	{"dump", "", 0, 0, OPT(PREFIX) | OPT(GLOB), 'A', "every record as JSON lines, in bounded snapshots",
         "The first line says what it is, the last one counts the records.\n  shmetactl dump > metadata.jsonl",
         verb_dump},
	{"verify", "", 0, 0, OPT(STORE) | SOURCE_OPTS, 'B', "structure, checksums, and every record against the source",
         "Exits 1 when anything differs.\n  shmetactl verify\n  shmetactl verify --store /tmp/copy-of-store.3\n"
         "  shmetactl verify --source sqlite:/var/lib/shmeta/metadata.db",
         verb_verify},
	{"compare", "", 0, 0, SOURCE_OPTS | OPT(RATE) | OPT(COUNT) | OPT(FOR), 'B',
         "a canary: sampled keys, store against source, at a bounded rate",
         "What differs is read again, and counts when it stays. 1000 keys, or --count, or as many as --for takes. Exits 1 on a\n"
         "mismatch.\n  shmetactl compare --rate 100/s --for 10m\n  shmetactl compare --count 5000 --json | jq .mismatches",
         verb_compare},
	{"export", "FILE|-", 1, 1, SOURCE_OPTS | OPT(YES), 'B', "everything the source holds, as JSON lines for import",
         "Stop the writers first. Exits 1 when quarantined rows were left out.\n  shmetactl export metadata.jsonl\n"
         "  shmetactl export - --source sqlite:/var/lib/shmeta/metadata.db | zstd > metadata.jsonl.zst",
         verb_export},
	{"import", "FILE|-", 1, 1, OPT(TARGET) | OPT(PASSWORD_FILE) | OPT(MERGE) | OPT(DRY_RUN) | OPT(YES), 'B',
         "put what export wrote into another source, as it is",
         "Judges the whole file before it writes; refuses a target that holds rows, unless told to --merge.\n"
         "  shmetactl import metadata.jsonl --target sqlite:/var/lib/shmeta/new.db --dry-run\n"
         "  shmetactl import metadata.jsonl --target sqlite:/var/lib/shmeta/new.db --yes",
         verb_import},
	{"schema status", "", 0, 0, SOURCE_OPTS, 'B',
         "what shmeta keeps in the source beside the rows, and if it is whole",
         "Exits 1 when there is no change feed.\n  shmetactl schema status --source postgresql://shmeta@db/streamhouse",
         verb_schema_status},
	{"schema apply", "", 0, 0, SOURCE_OPTS | OPT(DRY_RUN), 'B',
         "make shmeta's tables and triggers, in an empty source all tables",
         "Idempotent, in one transaction. --dry-run prints the SQL.\n"
         "  shmetactl schema apply --source postgresql://admin@db/streamhouse --dry-run",
         verb_schema_apply},
	{"schema remove", "", 0, 0, SOURCE_OPTS | OPT(DRY_RUN) | OPT(YES), 'B',
         "take shmeta's own tables and triggers out of the source",
         "Stop the daemons first, or forbid them to manage the schema. Asks first, or wants --yes.\n"
         "  shmetactl schema remove --source postgresql://admin@db/streamhouse --yes",
         verb_schema_remove},
	{"topic create", "TOPIC PARTITIONS", 2, 2, 0, 'B', "create a topic with so many partitions",
         "  shmetactl topic create orders 12", verb_topic_create},
	{"topic delete", "TOPIC", 1, 1, OPT(YES), 'B', "delete a topic with all that belongs to it",
         "Asks first, or wants --yes.\n  shmetactl topic delete orders --yes", verb_topic_delete},
	{"segments delete-before", "TOPIC PARTITION OFFSET", 3, 3, OPT(YES), 'B',
         "forget the segments that end before an offset; objects are not touched",
         "Asks first, or wants --yes.\n  shmetactl segments delete-before orders 0 150000 --yes",
         verb_segments_delete_before},
	{"segments replace", "TOPIC PARTITION FILE [COMPACTION_EPOCH]", 3, 4, OPT(YES), 'B',
         "segments of a partition go, and others come in their place; objects are not touched",
         "FILE, or - for standard input: a line for each segment, as `export` writes it, with - in front for one that goes and + for\n"
         "one that comes. All that go must be there as they are given. Asks first, or wants --yes.\n"
         "  shmetactl segments replace orders 0 changes.txt --yes",
         verb_segments_replace},
	{"epoch-end", "TOPIC PARTITION EPOCH", 3, 3, 0, 'B',
         "how far the log goes that was written under an epoch of a partition's lease",
         "Asked of the source. Exits 5 when the epoch has not begun, or is older than those that are kept.\n"
         "  shmetactl epoch-end orders 0 17\n  shmetactl epoch-end orders 0 17 --json | jq .end_offset",
         verb_epoch_end},
	{"refresh", "CLASS [TOPIC [PARTITION]]", 1, 3, 0, 'B',
         "have the daemon read from the source again, and wait for it",
         "CLASS: topic TOPIC; partition or segment TOPIC PARTITION; list, agent, lease or offset alone.\n"
         "  shmetactl refresh topic orders\n  shmetactl refresh partition orders 0\n  shmetactl refresh list",
         verb_refresh},
	{"invalidate", "[KIND [TOPIC [PARTITION]]]", 0, 3, OPT(PREFIX) | OPT(ALL) | OPT(DRY_RUN) | OPT(YES), 'B',
         "compare what the store holds with the source again, and wait for it",
         "KIND: topic TOPIC; partition or segment TOPIC PARTITION; agent, lease or offset alone. Or --prefix, or --all:\n"
         "these ask first, or want --yes.\n"
         "  shmetactl invalidate topic orders\n  shmetactl invalidate --prefix orders. --dry-run\n"
         "  shmetactl invalidate --all --yes --timeout 10m",
         verb_invalidate},
	{"accept-source", "[FINGERPRINT]", 0, 1, OPT(DRY_RUN) | OPT(YES), 'B',
         "publish a source that is held because it changed and lost most of its content",
         "Says what would be lost, and asks first, or wants --yes. With a FINGERPRINT only that one is accepted.\n"
         "  shmetactl accept-source --dry-run\n  shmetactl accept-source --yes",
         verb_accept_source},
	{"revoke", "READER", 1, 1, OPT(YES), 'B',
         "take back the snapshots of a registered process, which may hold back the store's room",
         "READER: a process id or a registration, as 'shmetactl readers' lists them. Its next call within a snapshot is\n"
         "told so (SHMETA_ERR_EXPIRED), and it registers anew. Asks first, or wants --yes.\n"
         "  shmetactl revoke 4711 --yes",
         verb_revoke},
	{"pause", "[REASON...]", 0, 64, 0, 'B',
         "leave the source alone, as for maintenance or a restore; survives a restart",
         "Answers when the daemon has no connection to the source any more. Lookups go on and grow old; writes are refused\n"
         "with the reason.\n  shmetactl pause restoring the database\n  shmetactl resume",
         verb_pause},
	{"resume", "", 0, 0, 0, 'B', "end a pause: the source is opened anew and judged as at a start",
         "Exits 5 when the source is not paused.\n  shmetactl resume", verb_resume},
	{"log-level", "[LEVEL]", 0, 1, OPT(FOR), 'B',
         "log at another level; without one, at the configured level again",
         "LEVEL: debug, info, notice, warning or err.\n  shmetactl log-level debug --for 10m", verb_log_level},
	{"set", "OPTION [VALUE]", 1, 2, 0, 'B',
         "another value of an option until the daemon is started again; without one, as configured again",
         "Any option that changes at reload, but those of rights, of the audit and of the source. The file is read again, too.\n"
         "Exits 2 with the reason when it was refused; then nothing has changed.\n"
         "  shmetactl set bounded.max_partitions 200000\n  shmetactl set bounded.max_partitions\n"
         "  shmetactl config show --running --changed",
         verb_set},
	{"objects", "", 0, 0, OPT(DELETABLE) | OPT(LIMIT) | OPT(AFTER), 'B',
         "objects of many slices, and which may be deleted",
         "Without --deletable all of them. A list also marks those that it sees without slices: their grace begins.\n"
         "  shmetactl objects --deletable --json | jq -r '.items[].key'",
         verb_objects},
	{"objects audit", "BUCKET LISTING|-", 2, 2, SOURCE_OPTS | OPT(MIN_AGE), 'B',
         "objects of a bucket that no metadata names, and metadata whose object is missing",
         "LISTING: what `aws s3api list-objects-v2` prints, all pages, or a line for each object: key, size and time of\n"
         "modification with tabs between, - for a time that nobody knows. Make it before, not while, and not with a prefix.\n"
         "Nothing is judged when a row of the source cannot be read. Exits 1 on a finding.\n"
         "  shmetactl objects audit data listing.json\n"
         "  shmetactl objects audit data listing.json --min-age 7d --json | jq -r '.items[] | select(.finding==\"orphan\").key'",
         verb_objects_audit},
	{"reload", "", 0, 0, OPT(WAIT), 'B', "have the daemon read its configuration again, all of it or nothing",
         "Says what waits for a restart. Exits 2 with the reason when the configuration was refused.\n  shmetactl reload --wait",
         verb_reload},
	{"support-bundle", "FILE", 1, 1, OPT(YES) | OPT(CONFIG) | OPT(PASSWORD_FILE), 'C',
         "what somebody needs to help, as a tar file without secrets",
         "What this program shows of the instance, its configuration, its log and its host, each as a file. Passwords are taken\n"
         "out wherever they stand. Nothing leaves the host: read it before you send it.\n  shmetactl support-bundle /tmp/shmeta.tar",
         verb_support_bundle},
	{"config show", "", 0, 0, OPT(CONFIG) | OPT(DEFAULTS) | OPT(RUNNING) | OPT(CHANGED) | OPT(NEEDS_RESTART), 'C',
         "every option of the running daemon, where it was set, and what waits for a restart",
         "Where no daemon answers: of its file in /etc/shmeta.\n"
         "  shmetactl config show --changed\n  shmetactl config show --running --needs-restart --json | jq '.options[].name'",
         verb_config_show},
	{"config check", "[FILE]", 0, 1, OPT(CONFIG), 'C',
         "check a configuration file, the daemon's own by default; nothing is changed",
         "Exits 2 when there are mistakes, all of which are told.\n  shmetactl config check\n"
         "  shmetactl config check /etc/shmeta/shmeta.conf.new",
         verb_config_check},
	{"completion", "SHELL", 1, 66, 0, 'C', "print the completion of verbs, options and topics for bash or zsh",
         "'make install' puts both where the shells look. For one shell alone:\n  . <(shmetactl completion bash)\n"
         "  . <(shmetactl completion zsh)",
         verb_completion},
	{"version", "", 0, 0, 0, 'C', "this program's version, and the running writer's", "  shmetactl version --json",
         verb_version},
	{"help", "[VERB]", 0, 2, 0, 'C', "this text, or one verb's", "  shmetactl help verify", verb_help},
};

const struct verb *tool_all_verbs(size_t *ret_count)
{
	*ret_count = sizeof(verbs) / sizeof(verbs[0]);
	return verbs;
}
