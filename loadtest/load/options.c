#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void option_refuse(const char *format, ...)
{
    va_list arguments;

    fputs("atoll-load: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(2);
}

uint64_t option_integer(const char *name, const char *value, uint64_t least, uint64_t most)
{
    char *end;

    errno = 0;
    unsigned long long number = strtoull(value, &end, 10);
    if (!isdigit((unsigned char)value[0]) || *end != '\0' || errno != 0 || number < least ||
        number > most)
        option_refuse("%s is \"%s\", and has to be a whole number from %llu to %llu", name, value,
                      (unsigned long long)least, (unsigned long long)most);
    return number;
}

double option_number(const char *name, const char *value, double least, double most)
{
    char *end;
    double number = strtod(value, &end);

    if (value[0] == '\0' || *end != '\0' || !isfinite(number) || number < least || number > most)
        option_refuse("%s is \"%s\", and has to be a number from %g to %g", name, value, least,
                      most);
    return number;
}

bool option_is_word(const char *value, const char *words)
{
    size_t n = strlen(value);

    for (const char *word = words; *word != '\0'; word += strspn(word, " ")) {
        size_t size = strcspn(word, " ");
        if (size == n && n != 0 && memcmp(word, value, n) == 0)
            return true;
        word += size;
    }
    return false;
}

const char *option_word(const char *name, const char *value, const char *words)
{
    if (!option_is_word(value, words))
        option_refuse("%s is \"%s\", and has to be one of: %s", name, value, words);
    return value;
}
