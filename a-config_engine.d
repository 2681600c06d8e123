config_engine.o: writer/config/config_engine.c \
 writer/config/config_value.h writer/config/config.h base/err.h \
 include/shmeta.h writer/engine/sync.h backends/backend.h \
 shm/page/board.h shm/page/frozen.h shm/page/order.h shm/page/counters.h \
 shm/store/store.h shm/index/part.h shm/record/key.h
writer/config/config_value.h:
writer/config/config.h:
base/err.h:
include/shmeta.h:
writer/engine/sync.h:
backends/backend.h:
shm/page/board.h:
shm/page/frozen.h:
shm/page/order.h:
shm/page/counters.h:
shm/store/store.h:
shm/index/part.h:
shm/record/key.h:
