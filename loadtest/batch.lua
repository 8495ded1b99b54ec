-- wrk script: batches of 100 message.send commands, 130 bytes each, to the session bench0.
--   wrk -s batch.lua URL
-- Ends with the same line as post.lua, which lies beside it.
dofile(debug.getinfo(1, "S").source:match("@(.*/)") .. "post.lua")

function init()
    local commands = {}
    for i = 1, 100 do
        commands[i] = message()
    end
    wrk.method = "POST"
    wrk.headers["Content-Type"] = "application/json"
    wrk.path = "/v1/sessions/bench0/commands"
    wrk.body = "[" .. table.concat(commands, ",") .. "]"
end

request = nil
