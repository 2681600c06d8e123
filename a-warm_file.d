warm_file.o: writer/load/warm_file.c writer/load/warm_file.h base/err.h \
 include/shmeta.h
writer/load/warm_file.h:
base/err.h:
include/shmeta.h:
