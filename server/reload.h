/*
 * reload: new settings (live.h) while the server runs, without a restart.
 *
 * Two things ask for it. SIGHUP: the sources of the configuration are read again, all of them, and
 * the files that they name. A change in a directory of a key or certificate file (inotify): these
 * files alone are read again, by the options in force. Directories are watched, not files, as files
 * are replaced by renaming, and in Kubernetes by a symbolic link's change beside them; what matters
 * is whether their bytes are others. Editors and secret stores change several things in a row: a
 * reload waits until RELOAD_QUIET_MS have gone by without a change, but for no more than
 * RELOAD_LATEST_MS after the first.
 *
 * Failure: the old settings stay in force, and a line in the log says why. Options that cannot
 * change while the server runs keep their value; each of them is named ("needs_restart"). Whether
 * the server is open (no keys at all) is such a thing, too: no slip of a file opens it.
 *
 * Thread: main thread only.
 */
#ifndef ATOLL_SERVER_RELOAD_H
#define ATOLL_SERVER_RELOAD_H

#include "server/live.h"

enum {
    RELOAD_QUIET_MS = 100,
    RELOAD_LATEST_MS = 500,
    RELOAD_WATCHES_MAX = 512, /* two directories for each file that options can name, and some */
};

struct reload {
    struct live_cell *cell; /* where new settings are published */
    const struct live_address *passed;
    unsigned passed_n;
    int argc; /* the flags, to be read again */
    char **argv;
    int fd; /* of inotify; -1: none could be had, and SIGHUP alone is heeded */
    int watches[RELOAD_WATCHES_MAX];
    unsigned watches_n;
    uint64_t print;   /* of the bytes of all files, as last read */
    int64_t since_ms; /* monotonic; first change that is not yet heeded, 0: none */
    int64_t last_ms;  /* the newest of them */
};

/* The caller has set the members down to `argv`; the first settings are made of `config`, after
 * this: so nothing that changes meanwhile goes unseen. */
void reload_open(struct reload *reload, const struct config *config);
void reload_close(struct reload *reload);
/* To be called when `fd` is readable. */
void reload_on_change(struct reload *reload, int64_t now_ms);
/* Milliseconds until changes of files are to be heeded; -1: there are none. */
int reload_wait_ms(const struct reload *reload, int64_t now_ms);
/* Reads the files again where it is time to. True: new settings have been published. */
bool reload_files(struct reload *reload, int64_t now_ms);
/* Reads everything again. True: new settings have been published. */
bool reload_all(struct reload *reload);

#endif
