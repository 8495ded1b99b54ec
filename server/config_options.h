/*
 * config_options: what config.c needs of the table of options besides config.h. Private to the two.
 */
#ifndef ATOLL_SERVER_CONFIG_OPTIONS_H
#define ATOLL_SERVER_CONFIG_OPTIONS_H

#include "core/base.h"
#include "server/config.h"

enum { CONFIG_OPTIONS_MAX = 64, CONFIG_NAME_SIZE = 48 };

#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

/* A malloc'd copy. */
char *config_copy_text(const char *text);
void config_clear_list(struct config_list *list);
/* The option's member of `config`. */
void *config_place_of(struct config *config, const struct config_option *option);
/* Parses, checks and stores one value (of a list: one more). 0, or -EINVAL where the text is none
 * that the option's row allows, -E2BIG where the list is full. */
int config_store_value(struct config *config, const struct config_option *option, const char *text);
/* As an option of this kind: 30s, 10min, 1h. 0, or -EINVAL. */
int config_parse_duration(const char *text, uint64_t *value_ms);
void config_write_number(uint64_t value, enum config_kind kind, char *out, size_t size);

#endif
