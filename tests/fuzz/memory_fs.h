/*
 * memory_fs: a directory in memory, for targets whose input is files. Nothing fails but what is not
 * there. Freed with the datadir that takes it; what is in it is `files`, which stay.
 */
#ifndef ATOLL_TESTS_FUZZ_MEMORY_FS_H
#define ATOLL_TESTS_FUZZ_MEMORY_FS_H

#include "core/base.h"
#include "shards/fs.h"

enum { MEMORY_FILES_MAX = 12, MEMORY_NAME_BYTES = 40 };

struct memory_file {
    char name[MEMORY_NAME_BYTES]; /* "": free */
    struct buf bytes;
};

/* Zero-initialise to make one. */
struct memory_files {
    struct memory_file items[MEMORY_FILES_MAX];
};

struct fs *memory_fs_new(struct memory_files *files);
/* Its bytes; the file is made where it is not there. */
struct buf *memory_file(struct memory_files *files, const char *name);
void memory_files_free(struct memory_files *files);

#endif
