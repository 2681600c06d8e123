instance.o: reader/attach/instance.c base/row_limits.h include/shmeta.h \
 reader/attach/attach.h base/err.h shm/page/board.h shm/page/frozen.h \
 shm/page/order.h shm/page/slots.h shm/record/key.h shm/tree/tree.h \
 shm/index/part.h
base/row_limits.h:
include/shmeta.h:
reader/attach/attach.h:
base/err.h:
shm/page/board.h:
shm/page/frozen.h:
shm/page/order.h:
shm/page/slots.h:
shm/record/key.h:
shm/tree/tree.h:
shm/index/part.h:
