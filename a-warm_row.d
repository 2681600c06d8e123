warm_row.o: writer/load/warm_row.c writer/load/warm_row.h \
 include/shmeta.h
writer/load/warm_row.h:
include/shmeta.h:
