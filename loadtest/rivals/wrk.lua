-- wrk script: one message.send of 130 bytes after another, to the sessions bench0, bench1 … in turn.
--   wrk -s wrk.lua URL -- SESSIONS
-- An independent check of atoll-load: when wrk ends, prints what compare.sh reads: how many were
-- answered in how many microseconds, and how many not as they should be (an answer other than 2xx,
-- a broken connection, a timeout).
local requests, turn = {}, 0

function init(args)
    local frame = '{"type":"message.send","thread":"work","sender":"a1","content":"%s"}'
    local body = frame:format(string.rep("x", 130 - #frame + 2))
    wrk.method = "POST"
    wrk.headers["Content-Type"] = "application/json"
    for i = 0, tonumber(args[1]) - 1 do
        requests[i] = wrk.format(nil, "/v1/sessions/bench" .. i .. "/commands", nil, body)
    end
end

function request()
    turn = (turn + 1) % (#requests + 1)
    return requests[turn]
end

function done(summary, latency)
    local e = summary.errors
    print(("wrk requests=%d us=%d bad=%d p50_us=%d"):format(summary.requests, summary.duration,
        e.status + e.connect + e.read + e.write + e.timeout, latency:percentile(50)))
end
