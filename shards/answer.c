#include "shards/shard.h"

void answer_problem(struct buf *out, unsigned error, const struct core_refusal *why)
{
    buf_add_literal(out, "{\"type\":\"/problems/");
    const char *name = request_error_name(error);
    const char *title = request_error_title(error);
    buf_add(out, name, strlen(name));
    buf_add_literal(out, "\",\"title\":\"");
    buf_add(out, title, strlen(title));
    buf_add_literal(out, "\",\"status\":");
    buf_add_u64(out, (uint64_t)request_error_status(error));
    buf_add_literal(out, ",\"detail\":");
    json_add_string(out, (struct str){why->detail, strlen(why->detail)});
    if (why->field != NULL) {
        buf_add_literal(out, ",\"field\":");
        json_add_string(out, (struct str){why->field, strlen(why->field)});
    }
    if (why->seq != 0 && error == CORE_E_EXPECTED_SEQ) {
        buf_add_literal(out, ",\"seq\":");
        buf_add_u64(out, why->seq);
    }
    buf_add_byte(out, '}');
}
