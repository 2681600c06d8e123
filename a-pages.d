pages.o: tools/monitor/pages.c tools/monitor/pages.h base/err.h \
 include/shmeta.h shm/page/board.h shm/page/frozen.h shm/page/order.h \
 shm/page/last_start.h shm/page/stats_page.h shm/page/counters.h \
 shm/page/slots.h
tools/monitor/pages.h:
base/err.h:
include/shmeta.h:
shm/page/board.h:
shm/page/frozen.h:
shm/page/order.h:
shm/page/last_start.h:
shm/page/stats_page.h:
shm/page/counters.h:
shm/page/slots.h:
