/* SPDX-License-Identifier: Apache-2.0
 * The table of events, and the journal's catalog that is made from it. */
#include "writer/daemon/events.h"

#include <ctype.h>
#include <string.h>

/* In the order of the words. An id is for ever: monitors look for it (it was the MD5 of "shmeta
 * event WORD"). */
static const struct event table[] = {
	{"audit", "3926ba283aff34260bf561ffa374420e", "Somebody wrote or administered",
         "The line names the user and process, what was done, the key and the result. Nothing is wrong. "
         "Deletions, new topics and administration have a line each; all other writes are counted by "
         "second, user and kind. write.audit turns the lines off."},
	{"bad-frame", "2b2bed4932ff9379c34222c23160a9fa", "A client sent what is not of the protocol",
         "The connection was closed. The process of that pid is not linked with libshmeta, or with one "
         "of another version, or probes the socket. Compare 'shmetactl version' with the agent's "
         "library."},
	{"bounded_over", "857a1be6000e4c37a68aba0f54b0c822", "A bounded store is over its budget",
         "Agents, leases, offsets and what is known to be absent alone take more than bounded.max_bytes, and "
         "none of them may leave: raise it, and store.max_bytes to twice that at least."},
	{"bounded_pressure", "5b1f0c4e9d3a47c2b86e21f7a9c0d45e", "A bounded store runs out of room",
         "Content and what readers pin take 85 percent or more of store.max_bytes, or of what the file system of the "
         "instance has room for. Records leave though the budgets hold, a batch of bounded.batch_percent a second. "
         "'shmetactl status' says the level, 'shmetactl readers' who pins. Raise store.max_bytes, give the file "
         "system room, or lower bounded.max_bytes."},
	{"config", "58c6a1e99cb78a4e10be0cb8ba29394c", "The configuration has a mistake",
         "The line names file, line and option. A start with it ends with status 2; a reload with it "
         "changes nothing. Mend the file, check it with 'shmetactl config check', then reload or start."},
	{"control", "e96b06e23079ed4e6a8a2258d77a2640", "A connection cannot be served",
         "The kernel refused to watch a connection of the control socket, which usually means that "
         "memory or epoll watches ran out. The client tries again by itself. Look at the memory limit of "
         "the unit."},
	{"damaged", "0da0e589b095b5923431e3a094ddd83f", "A page of the instance directory was damaged",
         "The board or the statistics held what no writer writes. They were made anew, and where the "
         "line says so the store with them; readers attach again by themselves. Find out who can write "
         "to the directory."},
	{"denied", "290da32e98585351f716c3a64859ff0d", "A client may not do what it asked for",
         "The user of that process is neither root nor the daemon's, and not in the group that may do "
         "this. Grant it with control.write_groups, control.write_users or control.admin_group, and "
         "reload."},
	{"descriptor", "093bbb5a1f04de177a0d45cd53e618b3",
         "The service manager passed a descriptor that nobody expects",
         "It was closed. The unit's descriptor store or a socket unit passes something else than "
         "registrations and the control socket: look at drop-ins of shmetad.service and shmetad.socket."},
	{"descriptors", "6ff5f8eeefea2c186bfb6371a578f458", "The daemon has no file descriptor left",
         "New connections are closed; those that are there stay. Raise LimitNOFILE= in a drop-in, or "
         "find out who opens so many: 'shmetactl readers'."},
	{"directory", "f1f53ef5b6a389989c232eab3e1eeaf6", "The instance directory is not as it should be",
         "The line says what is unusual about it, for example that it had to be made or that its group "
         "is missing. Compare it with the section THE INSTANCE DIRECTORY of shmetad(8). One that was removed, "
         "renamed or replaced under the daemon is made anew by a restart; programs that run follow to it."},
	{"failed", "bebc52ff1ca0adc33f51a55ea418993f", "The daemon cannot run",
         "The line says why. With status 2 it is not tried again: mend the configuration or the source "
         "and start it. Otherwise the service manager tries again by itself. Agents go on reading the "
         "store that is there."},
	{"feed_overflow", "7b08dfb9b555cf525cdb410aa59fac1d", "Too many keys changed at once",
         "So many keys changed that reading everything is cheaper, which has begun. A bulk load or a "
         "restore of the source causes this. Nothing is to be done."},
	{"feed_resumed", "6819f92be962015768a8dfae81b43c2f", "The change feed goes on after a restart",
         "Either where the former writer left it, or, for the reason that the line gives, after a full "
         "comparison. Nothing is to be done."},
	{"feed_runs", "c7bf9f1392495c4eb93f94106f3f993c", "The change feed runs again",
         "Changes of other hosts show after moments again. Nothing is to be done."},
	{"feed_stopped", "9425df244494039c78ad8ee8ad10b3fa", "The change feed does not run",
         "The source answers, but does not report changes, for the reason in the line; until it does, "
         "everything is compared periodically, and changes show later. 'shmetactl status' shows whether "
         "that is still so."},
	{"generation_copied", "58b6d45c2be259d9fff360c1ae645b98", "The store was copied to a new generation",
         "Readers move to it by themselves. It happens when registrations were lost or the store had to "
         "be made anew. For a moment two stores take memory."},
	{"generation_left", "fc7d11622f977547dcc163a8f976764b", "An old generation could not be removed",
         "Its files take memory until they are gone. The line has the error; the next start tries again."},
	{"group", "01c78fb87845bdb2ffa1d9391fb7212d", "A user or group does not exist, or cannot be used",
         "What the configuration grants to it is granted to nobody. Create it, or mend control.group, "
         "control.admin_group, control.write_groups or control.write_users, and reload."},
	{"late", "4a278393814164d43cfd12de8acf77ef", "A class of records is older than its time to live",
         "The source is not known to fail, but a full read has not come to an end in time. Compare the "
         "time that it takes ('shmetactl status') with feed.reconcile_s and the ttl; look at the load of "
         "the source."},
	{"loaded", "2f03dd4aaf09e0de0ede2a99efef2bf8", "The source has been read as a whole",
         "A new generation has what the line counts. Nothing is to be done."},
	{"loading", "fc9b4b22778d63ddcb4ea7e2658fd246", "The source is being read as a whole",
         "Readers go on with what is there, if anything is. 'systemctl status shmetad' shows the "
         "progress."},
	{"lock", "4c6377a56d2ea7157cf3f695ea39d83d", "The lock file of the writer was replaced",
         "It could be opened by others, as one of a former version. Whoever is named held it; only a "
         "writer of this instance has a reason to."},
	{"log_level", "89cb74124639e0e2f32098cda3a22c63", "The level of the log was changed",
         "Somebody asked for it with 'shmetactl log-level', or the time for which it was asked is over."},
	{"log_lost", "e86772f56dca41ec15042ab6878eb03a", "Lines of the log were lost",
         "Nobody read the daemon's standard error for so long that more waited than is kept: 256 KiB, and 4 MiB of "
         "the audit; or it is a file that could not be written, for the reason in the line. Everything else went "
         "on. The line says how many were lost. See what stopped reading (systemd-journald, or the other end of "
         "the pipe), or make room on the file system of the file."},
	{"memory", "5c6825958a6c8d2922b0eff8a61e8585", "There is no memory for a connection or an answer",
         "The connection was closed; the client tries again. Look at the memory limit of the unit and of "
         "the host."},
	{"memory-limit", "3e72801f8e1dbd498bb8859336959530", "The memory limit of the unit is too low for the store",
         "The kernel kills the daemon before the store is full, and again after each restart. Raise "
         "MemoryMax= to what the line names, or lower store.max_bytes."},
	{"not-tmpfs", "7e8b7ba71ee644c129b8e565fc1d3092", "The instance directory is not on tmpfs",
         "Each commit is written to a disk, and reads may wait for it. Mount a tmpfs (run-shmeta.mount) "
         "or choose a directory on one."},
	{"object_left_out", "27ed5d353849dc4805f4e815a0684210", "An object was not listed as deletable",
         "Its row cannot be trusted, for the reason in the line; what is left out is not deleted. Look "
         "at the rows of that object in the source."},
	{"old-snapshot", "1e47314ba193245d92d33d0bc8ebf53b", "A process keeps one snapshot for long",
         "The store grows while it does. The agent of that pid leaves a snapshot open, hangs or is "
         "stopped. snapshot.max_age ends it by itself; 'shmetactl revoke' ends it at once."},
	{"out-of-memory", "ce1f33376ba715244d4636e256eb3e17", "Messages were lost for want of memory",
         "The engine's own messages could not be kept; requests were answered all the same. Look at the "
         "memory limit of the unit and of the host."},
	{"paused", "c831f45e0cbe054dd89deb6ea383877c", "The source is left alone",
         "Somebody asked for it, for the reason in the line; it also holds after a restart. Lookups go on and grow old, writes are refused. 'shmetactl resume' ends it."},
	{"phase", "20514c7b0370498ffc91b09d9512c2a9", "The phase of the daemon changed",
         "Serving: all is well. Loading: there may be nothing to read yet. Degraded: agents read what is "
         "there and see its age; the sentence says why. Draining and stopped: it ends."},
	{"quarantine_left", "0f955e6e24a87adc43eaf25b86c71103", "A row can be served again",
         "It was mended in the source, or it has gone. Nothing is to be done."},
	{"quarantine_left_total", "8ef542bb419244a4c157b42913bee81b", "Rows can be served again",
         "As many as the line says. Nothing is to be done."},
	{"quarantined", "65900d0c97d2b8f4adca67ddc69a0bee", "A row of the source cannot be served",
         "Its values are impossible, for the reason in the line, and agents are told that it is not "
         "known. 'shmetactl quarantine' lists all of them; mend them in the source."},
	{"quarantined_total", "01749305ba4d99f3c47348a5a76b466e", "Rows of the source cannot be served",
         "There are more than the lines before it show. 'shmetactl quarantine' lists all of them; mend "
         "them in the source."},
	{"read_by_keys", "8687ed70f9fea3416fc05ac5735d3177", "The source is read key by key",
         "It cannot be read as a whole, for the reason in the line: a damaged table, or a right that is "
         "missing. What can be read is served; mend the source."},
	{"reconciled", "810d69fb2e9ac243c96bda1816ad5bff", "A full comparison found what the feed had not told",
         "The rows are right now. If it happens again and again, somebody changes the source past its "
         "triggers, or the feed is not set up: 'shmetactl schema status'."},
	{"refused", "177d3cb9b775c310838fe765e5c7c18a", "A connection was refused",
         "A limit of the control socket is reached, which the line names. The client tries again. Raise "
         "the limit (shmeta.conf(5), section control), or find out who connects so often: 'shmetactl "
         "readers'."},
	{"register", "353db888f1573b415c9f629c97ac318f", "A process could not be registered",
         "It reads without a registration, within the grace period. The line says why: a limit, no "
         "memory, or no descriptor."},
	{"reload", "b734579c0d969a8848597f7f3a3d9ed1", "The configuration was read again",
         "The line says who asked, and whether it is in use. A file with a mistake changes nothing."},
	{"resumed", "66d7b55b40c182321aab4c96b333420a", "The source is looked at again",
         "The pause is over. Nothing is to be done; a source that lost most of its content meanwhile is held until somebody consents."},
	{"second_connection", "deb53774318a3f4605a7d89783e251ca", "A full comparison reads key by key",
         "The source does not allow a second connection, so everything is read again by its keys, which "
         "takes longer. Allow this user one connection more."},
	{"shrink_confirmed", "651bdb454faa7c901f1a1337b8c83303", "The source has lost much, and says so twice",
         "What it lacks is deleted in the store, too. If that is not intended, restore the source."},
	{"shrink_suspected", "26aa53b2176be80d4fb47ddaca7bbcab", "The source shows much less than the store has",
         "Nothing is deleted before a second read confirms it. If that is not intended, look at the "
         "source now."},
	{"silent", "a14c3aa6fd887b4d019a547c637a6335", "A connection that says nothing was closed",
         "Limits: control.first_frame_ms and control.idle_s. A process that connects and does not speak "
         "is no agent; a monitor that probes the socket should run 'shmetactl status'."},
	{"snapshot-revoked", "36d75519e9dc2ba529576aa83432704a", "A process was cut off from its snapshot",
         "It held it longer than snapshot.max_age, or the store had no room left, or an administrator "
         "asked for it. Its next call answers SHMETA_ERR_EXPIRED and registers anew."},
	{"source_accepted", "979834b582aed45c0f22fd44811186d6", "A source that lost most of its content was accepted",
         "By the consent that the line names. Its content is published."},
	{"source_away", "57e6a52248dfc7eb19455533a503cdd9", "The source cannot be read",
         "Agents go on with what is in the store and see its age; writes fail. The line has the source's "
         "words. Look at the database and the way to it; the daemon tries again by itself."},
	{"source_back", "3912a7c5cb5c219e3c0511ecc2463a45", "The source answers again",
         "Everything converges by itself."},
	{"source_changed", "f2e72d50166fe0a5918469eccba55d25", "The source is another one than before",
         "Its identity differs from that of the store. It is read into a generation of its own before it is published, and held "
         "back if it lacks most of what was there."},
	{"source_full", "78bbe372bacec8ce09726a935252a25f", "The source does not take writes",
         "Its disk, quota or limit is full; reads go on. Make room; the next write is tried by itself."},
	{"source_held", "d173d69336f16ca8a50bac3315c2be08", "The content of the source is held back",
         "It lacks more than half of what is served. Agents keep what they have. Look what is behind "
         "source.uri, and only if it is right run 'shmetactl accept-source'."},
	{"source_read_only", "9e2ea36c972674e45979da82f4f76b6a", "The source cannot be written",
         "Writes fail, and a SQLite source has no change feed. Usually the file or its directory belongs "
         "to another user than shmeta. Set source.read_only = on if it is meant so."},
	{"source_returned", "c33e1d2a9d3c02b8a0e0ca1432904d3b", "The former source is back",
         "The source is the one again that the store was filled from. Nothing is to be done."},
	{"source_room", "646e2c10aa69eaca608a9c482fdb2b6d", "The source takes writes again", "Nothing is to be done."},
	{"source_writable", "f337438114f52588f0aa010fd6c04408", "The source can be written again",
         "Nothing is to be done."},
	{"starting", "21354ca88c56c1413d6e6a472fbf1cff", "The daemon starts",
         "The line has its version, instance, directory and source."},
	{"state", "6ae0dd3e83a9ec017d8c2272dbfb3e10", "The daemon did not do what its states forbid",
         "This is a mistake of the program: the line names the move, which was not made. Report it with the "
         "lines around it; a restart of the daemon begins from what the store and the source say."},
	{"stopped", "f00ab4f7a6c217bf3d7f71def49f8d61", "The daemon stops at once",
         "It got a second signal while it stopped. Writes that waited were not made."},
	{"store_adopted", "71d5f09e0673b75f22c878908d596693", "The store of the former writer is in use",
         "It was proved first. Agents did not notice; only what has changed since is read."},
	{"store_failed", "3ce92d0be89fd94d995afbb27dd4c30e", "The store cannot be brought up to date",
         "Agents go on with what is there and see its age. The line has the error. A damaged store is "
         "made anew from the source by itself."},
	{"store_filling", "3694cfc5ca75b6f4b6e8de65e94616f5", "The store is nearly full",
         "Content and what old snapshots hold back near store.max_bytes. Raise it and restart, or look "
         "who holds snapshots: 'shmetactl readers', 'shmetactl store'."},
	{"store_full", "5862bffe16e27d66670e4e306e7c4bb6", "The store is full",
         "Agents go on with what is there; what does not fit is not shown. Raise what the line names: "
         "store.max_bytes, the size of the tmpfs, its inodes, or LimitFSIZE=."},
	{"store_refused", "2dd537da8c0c38c32a9be1bae7237252", "The store that was found cannot be used",
         "For the reason in the line. Its readers keep it, and a new one is loaded from the source "
         "beside it."},
	{"store_writable", "3c5b5d869286c7eafa5941d92cd2c1e9", "The store is brought up to date again",
         "Nothing is to be done."},
	{"thread", "29e603e7b2875ec78be8a127944b2845", "A thread cannot be created",
         "The limit of tasks or memory is reached (TasksMax=). The daemon was told to stop and stops "
         "without it; meanwhile it does not answer."},
	{"unread", "be6c540bb31a29e1f5a53ee3aa1d423b", "A client does not read its answers",
         "More than control.output_max_bytes waited, and the connection was closed. The agent hangs or "
         "is stopped; it connects again by itself."},
	{"warm_loaded", "43a121e28b1b49b49c9eceb2b9c5682e", "Rows of the snapshot file are served",
         "The start found no store, so lookups are answered from the file, with the age that it has; "
         "nothing is fresh until the source has told what changed since. Nothing is to be done."},
	{"warm_not_saved", "417940f2afa245999f49b4f818cd3290", "The snapshot file was not written",
         "The former file stays, so a start after a reboot serves older rows. The line says why: make "
         "room on its file system, or mend the rights of its directory."},
	{"warm_refused", "863e8e1affdf40228791c7bfb522b4e9", "The snapshot file cannot be used",
         "It is damaged, of another format or source, or others may have written it; the line says "
         "which. The source is read as without a file, and the next one replaces it."},
	{"warm_saved", "803b15fad2354f5582613e6317b915e0", "The snapshot file was written",
         "It has replaced the former one. Nothing is to be done."},
};

const struct event *event_find(const char *word)
{
	size_t low = 0, high = sizeof(table) / sizeof(*table);

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = strcmp(word, table[middle].word);

		if (order == 0)
			return &table[middle];
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

/* Lines of at most this many columns; a word is never cut. */
static void print_wrapped(const char *text, size_t columns, FILE *stream)
{
	size_t column = 0;

	while (*text != '\0') {
		size_t word = strcspn(text, " ");

		if (column > 0 && column + 1 + word > columns) {
			fputc('\n', stream);
			column = 0;
		}
		column += (size_t)fprintf(stream, "%s%.*s", column > 0 ? " " : "", (int)word, text);
		text += word;
		text += strspn(text, " ");
	}
	fputc('\n', stream);
}

void event_print_catalog(FILE *stream)
{
	fputs("# The events of shmetad(8), for journalctl -x.\n", stream);
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		const struct event *e = &table[i];

		fprintf(stream,
		        "\n-- %s\nSubject: %s (@SHMETA_INSTANCE@)\nDefined-By: shmeta\n"
		        "Documentation: man:shmetad(8)\nDocumentation: man:shmeta.conf(5)\n\n",
		        e->id, e->subject);
		print_wrapped(e->text, 90, stream);
	}
}
