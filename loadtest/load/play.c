#include "mixed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void play_name(const struct play *play, const char *prefix, uint32_t run, char name[64])
{
    snprintf(name, 64, "%s-%08x-%u", prefix, run, play->number);
}

void play_acked(struct play *play, uint64_t seq)
{
    if (play->acked == play->room) {
        play->room = 2 * play->room + play->script->messages_n;
        play->seqs = realloc(play->seqs, play->room * sizeof(*play->seqs));
        if (play->seqs == NULL) {
            fprintf(stderr, "atoll-load: out of memory\n");
            exit(2);
        }
    }
    play->seqs[play->acked++] = seq;
}

struct reading {
    const struct play *play;
    const char *name;
    struct report *report;
    uint32_t at; /* messages seen */
    uint64_t right;
};

static const struct script_message *message_at(const struct reading *reading)
{
    return &reading->play->script->messages[reading->at % reading->play->script->messages_n];
}

static bool says(const char *p, const char *end, const char *name)
{
    size_t n = strlen(name);

    return p != NULL && (size_t)(end - p) > n && memcmp(p, name, n) == 0 && p[n] == '"';
}

static void check_message(void *context, const struct told *told)
{
    struct reading *reading = context;
    const struct script_message *message = message_at(reading);
    uint64_t seq = reading->at < reading->play->acked ? reading->play->seqs[reading->at] : 0;

    if (reading->at == reading->play->acked)
        report_problem(reading->report, "session %s holds more than was sent: seq %llu",
                       reading->name, (unsigned long long)told->seq);
    else if (told->seq != seq)
        report_problem(
            reading->report,
            "session %s: message %u was acknowledged with seq %llu, and seq %llu is there",
            reading->name, reading->at, (unsigned long long)seq, (unsigned long long)told->seq);
    else if (!says(told->thread, told->end, message->thread) ||
             !says(told->sender, told->end, message->sender) ||
             !json_says(told->content, told->end, message->json, message->json_size))
        report_problem(reading->report, "session %s: seq %llu differs from what was sent",
                       reading->name, (unsigned long long)seq);
    else
        reading->right++;
    reading->at++;
}

uint64_t play_check(const struct play *play, const char *name, struct asker *asker,
                    struct report *report)
{
    struct reading reading = {.play = play, .name = name, .report = report};
    const char *wrong = NULL;

    if (play->acked != 0)
        wrong = asker_messages(asker, name, check_message, &reading);
    if (wrong != NULL)
        report_problem(report, "session %s cannot be read back: %s", name, wrong);
    else if (reading.at < play->acked)
        report_problem(report, "session %s holds %u messages, and %u were acknowledged", name,
                       reading.at, play->acked);
    return reading.right;
}
