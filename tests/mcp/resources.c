/* resources: those of the fixtures. Their content never changes. */
#include "core/core.h"
#include "fixtures.h"

static const char template_before[] = "test://template/", template_after[] = "/data";

struct resource {
    const char *uri, *content; /* content: an element of "contents" */
};

#define TEXT(uri, text)                                                                            \
    {                                                                                              \
        uri, "{\"uri\":\"" uri "\",\"mimeType\":\"text/plain\",\"text\":\"" text "\"}"             \
    }
static const struct resource resources[] = {
    TEXT("test://static-text", "This is the content of the static text resource."),
    TEXT("test://watched-resource", "Nothing ever happens here."),
    {"test://static-binary", "{\"uri\":\"test://static-binary\",\"mimeType\":\"image/png\","
                             "\"blob\":\"" PNG_BASE64 "\"}"},
};

#define LISTED(uri, name, description, type)                                                       \
    "{\"uri\":\"" uri "\",\"name\":\"" name "\",\"description\":\"" description                    \
    "\",\"mimeType\":\"" type "\"}"
#define LISTED_TEXT LISTED("test://static-text", "static-text", "Text that stays", "text/plain")
#define LISTED_IMAGE LISTED("test://static-binary", "static-binary", "An image", "image/png")
#define LISTED_WATCHED                                                                             \
    LISTED("test://watched-resource", "watched-resource", "To be subscribed to", "text/plain")
const char fixture_resources[] = LISTED_TEXT "," LISTED_IMAGE "," LISTED_WATCHED;
const char fixture_templates[] =
    "{\"uriTemplate\":\"test://template/{id}/data\",\"name\":\"template\","
    "\"description\":\"Data for an id\",\"mimeType\":\"application/json\"}";

static void answer(struct mcp_call *call, struct str content)
{
    struct buf result = {0};
    buf_add_literal(&result, "{\"contents\":[");
    buf_add_str(&result, content);
    buf_add_literal(&result, "]}");
    mcp_result(call, buf_str(&result));
    buf_free(&result);
}

/* The {id} of the template's URI; p == NULL: it is no such URI. */
static struct str template_id(struct str uri)
{
    const size_t before = sizeof(template_before) - 1, after = sizeof(template_after) - 1;
    if (uri.n <= before + after || memcmp(uri.p, template_before, before) != 0 ||
        memcmp(uri.p + uri.n - after, template_after, after) != 0)
        return (struct str){NULL, 0};
    struct str id = {uri.p + before, uri.n - before - after};
    return memchr(id.p, '/', id.n) == NULL ? id : (struct str){NULL, 0};
}

static void answer_template(struct mcp_call *call, struct str uri, struct str id)
{
    struct buf text = {0}, said = {0}, content = {0};
    buf_add_literal(&said, "Data for ID: ");
    buf_add_str(&said, id);
    buf_add_literal(&text, "{\"id\":");
    json_add_string(&text, id);
    buf_add_literal(&text, ",\"templateTest\":true,\"data\":");
    json_add_string(&text, buf_str(&said));
    buf_add_byte(&text, '}');
    buf_add_literal(&content, "{\"uri\":");
    json_add_string(&content, uri);
    buf_add_literal(&content, ",\"mimeType\":\"application/json\",\"text\":");
    json_add_string(&content, buf_str(&text));
    buf_add_byte(&content, '}');
    answer(call, buf_str(&content));
    buf_free(&text);
    buf_free(&said);
    buf_free(&content);
}

static const struct resource *find(struct str uri)
{
    for (size_t i = 0; i < sizeof(resources) / sizeof(resources[0]); i++)
        if (strlen(resources[i].uri) == uri.n && memcmp(resources[i].uri, uri.p, uri.n) == 0)
            return &resources[i];
    return NULL;
}

bool fixture_read(struct mcp_call *call, struct str uri)
{
    const struct resource *found = find(uri);
    struct str id = template_id(uri);
    if (found != NULL)
        answer(call, (struct str){found->content, strlen(found->content)});
    else if (id.p != NULL)
        answer_template(call, uri, id);
    return found != NULL || id.p != NULL;
}

bool fixture_knows(struct str uri)
{
    return find(uri) != NULL || template_id(uri).p != NULL;
}
