sync.o: writer/engine/sync.c writer/engine/engine.h writer/apply/apply.h \
 backends/backend.h include/shmeta.h base/arena.h base/keyset.h \
 shm/record/key.h shm/record/record.h shm/page/frozen.h shm/store/store.h \
 base/err.h shm/index/part.h shm/page/board.h shm/page/order.h \
 writer/apply/offset_index.h writer/apply/quarantine.h \
 writer/engine/states.h writer/engine/sync.h shm/page/counters.h \
 writer/keys/apply_clock.h writer/keys/orphans.h writer/write/turns.h \
 writer/engine/failing.h writer/keys/queue.h base/str.h \
 writer/keys/absent.h writer/keys/askers.h writer/keys/refresh.h \
 writer/engine/phase.h writer/keys/reread.h writer/load/warm.h
writer/engine/engine.h:
writer/apply/apply.h:
backends/backend.h:
include/shmeta.h:
base/arena.h:
base/keyset.h:
shm/record/key.h:
shm/record/record.h:
shm/page/frozen.h:
shm/store/store.h:
base/err.h:
shm/index/part.h:
shm/page/board.h:
shm/page/order.h:
writer/apply/offset_index.h:
writer/apply/quarantine.h:
writer/engine/states.h:
writer/engine/sync.h:
shm/page/counters.h:
writer/keys/apply_clock.h:
writer/keys/orphans.h:
writer/write/turns.h:
writer/engine/failing.h:
writer/keys/queue.h:
base/str.h:
writer/keys/absent.h:
writer/keys/askers.h:
writer/keys/refresh.h:
writer/engine/phase.h:
writer/keys/reread.h:
writer/load/warm.h:
