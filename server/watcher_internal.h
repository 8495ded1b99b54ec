/*
 * What watcher.c (places, filling), watcher_ask.c (questions and answers) and watcher_text.c (texts
 * of frames) know of each other.
 */
#ifndef ATOLL_SERVER_WATCHER_INTERNAL_H
#define ATOLL_SERVER_WATCHER_INTERNAL_H

#include "server/feed.h"
#include "server/framing.h"

/* ---- watcher_text.c */

struct framing watcher_framing_of(const struct watcher *watcher, char view[FRAMING_VIEW_BYTES]);
/* An event of a frame in one form, as it was encoded; n == 0: it was not. */
struct str watcher_item_text(const struct frame *frame, uint32_t i, unsigned form);
/* Whether its texts are those of all who watch in its form: it wants all, and all is shown. */
bool watcher_shares(const struct watcher *watcher);
/* A frame's events after `told`, as this watcher is to get them; `said` moves on. NULL: it is not
 * encoded in the watcher's form. */
struct chunk *watcher_text(struct watcher *watcher, const struct frame *frame);
/* The same for a frame of the feed, of which all who watch alike share the text. */
struct chunk *watcher_shared_text(struct watcher *watcher, struct feed_frame *at);
/* One patch for all that follows its place. NULL: that cannot be had. */
struct chunk *watcher_merged_text(struct watcher *watcher);

/* ---- watcher_ask.c */

/* Asks the shard for what the watcher is to tell next; joins those who have asked the same.
 * `epoch`: that its position speaks of; p == NULL: the one there is. False: it cannot be asked. */
bool watcher_ask(struct watcher *watcher, struct str epoch);
/* Frames did not come: neither do more, whatever the answers to what is asked already say. */
void watcher_feed_lost(struct feed *feed);
/* Its question, if it has one, is no longer its own. */
void watcher_ask_leave(struct watcher *watcher);

/* ---- watcher.c */

extern const char watcher_other_life[]; /* a reason to begin anew */

/* The first answer is there: its owner hears of it in feeds_work. */
void watcher_begin(struct watcher *watcher);
/* What it told cannot be gone on from: patches begin anew with a snapshot that says why (a static
 * text), events are read on from the log. */
void watcher_fall_behind(struct watcher *watcher, const char *why);
/* Its session was deleted and made again, and nobody said so. */
void watcher_begin_life(struct watcher *watcher);
/* What it asked could not be answered: in WATCHER_RETRY_MS. */
void watcher_ask_later(struct watcher *watcher);

#endif
