/* The OpenAPI document, taken into the binary as it stands in web/openapi.yaml. */
#include "server/openapi.h"

__asm__(".section .rodata\n"
        ".balign 8\n"
        ".global web_openapi_yaml\n"
        "web_openapi_yaml:\n"
        ".incbin \"" ATOLL_OPENAPI_FILE "\"\n"
        "1:\n"
        ".byte 0\n"
        ".balign 8\n"
        ".global web_openapi_yaml_size\n"
        "web_openapi_yaml_size:\n"
        ".quad 1b - web_openapi_yaml\n"
        ".previous\n");
