/*
 * options: values of options, checked. What is wrong ends the program with status 2 and a sentence
 * that names the option, the value and what is allowed.
 *
 * Thread: before there are others.
 */
#ifndef ATOLL_LOAD_OPTIONS_H
#define ATOLL_LOAD_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

uint64_t option_integer(const char *name, const char *value, uint64_t least, uint64_t most);
double option_number(const char *name, const char *value, double least, double most);
/* One of the words, which are separated by spaces; returns `value`. */
const char *option_word(const char *name, const char *value, const char *words);
bool option_is_word(const char *value, const char *words);
/* Any other reason: "atoll-load: ..." and exit(2). */
void option_refuse(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

#endif
