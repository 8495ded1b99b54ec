/*
 * backup: a consistent copy of a data directory, also of one that a running server writes to.
 *
 * Thread: any. Nothing is asked of the server and no lock is taken: files are read, and written
 * elsewhere.
 */
#ifndef ATOLL_SHARDS_BACKUP_H
#define ATOLL_SHARDS_BACKUP_H

#include "shards/fs.h"

struct backup_report {
    uint64_t segments, checkpoints; /* files copied */
    uint64_t bytes;                 /* read and written */
    uint64_t starts_over;           /* how often the directory changed before the cut was made */
};

/*
 * Copies `from` to `to`, an empty directory. 0, or -errno with a sentence: then `to` has no
 * manifest, and can be taken for no backup; `from` is never changed.
 */
int backup_run(struct fs *from, struct fs *to, struct backup_report *report, char *error,
               size_t error_size);

#endif
