age.o: reader/lookup/age.c reader/lookup/lookup.h base/row_limits.h \
 include/shmeta.h reader/request/request.h reader/attach/attach.h \
 base/err.h shm/page/board.h shm/page/frozen.h shm/page/order.h \
 shm/page/slots.h shm/record/key.h shm/tree/tree.h shm/index/part.h \
 shm/wire/wire.h reader/snapshot/snapshot.h shm/page/histogram.h \
 shm/record/record.h
reader/lookup/lookup.h:
base/row_limits.h:
include/shmeta.h:
reader/request/request.h:
reader/attach/attach.h:
base/err.h:
shm/page/board.h:
shm/page/frozen.h:
shm/page/order.h:
shm/page/slots.h:
shm/record/key.h:
shm/tree/tree.h:
shm/index/part.h:
shm/wire/wire.h:
reader/snapshot/snapshot.h:
shm/page/histogram.h:
shm/record/record.h:
