schedule.o: writer/engine/schedule.c writer/engine/engine.h \
 writer/apply/apply.h backends/backend.h include/shmeta.h base/arena.h \
 base/keyset.h shm/record/key.h shm/record/record.h shm/page/frozen.h \
 shm/store/store.h base/err.h shm/index/part.h shm/page/board.h \
 shm/page/order.h writer/apply/offset_index.h writer/apply/quarantine.h \
 writer/engine/states.h writer/engine/sync.h shm/page/counters.h \
 writer/keys/apply_clock.h writer/keys/orphans.h writer/write/turns.h \
 writer/keys/refresh.h
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
writer/keys/refresh.h:
