test_warm.o: tests/unit/test_warm.c tests/support/memory_faults.h \
 backends/memory/memory.h backends/backend.h include/shmeta.h \
 tests/support/sync_fixture.h shm/page/board.h base/err.h \
 shm/page/frozen.h shm/page/order.h shm/store/store.h shm/index/part.h \
 shm/record/key.h writer/engine/sync.h shm/page/counters.h
tests/support/memory_faults.h:
backends/memory/memory.h:
backends/backend.h:
include/shmeta.h:
tests/support/sync_fixture.h:
shm/page/board.h:
base/err.h:
shm/page/frozen.h:
shm/page/order.h:
shm/store/store.h:
shm/index/part.h:
shm/record/key.h:
writer/engine/sync.h:
shm/page/counters.h:
