#!/usr/bin/env bash
# Repeats the measurements of watching: loadtest/watching.sh [--rounds N] [--seconds N] [--scale F]
#     [--dir DIR] [--build DIR] [--no-build] [--atoll-option OPTION]... [PART]...
#
# Parts, all of them by default:
#   fanout    1 000 watchers of one session without merging: against a bare loop of send() and nchan
#   merged    the same with writers that do not wait: patches merged for who is slow
#   latency   50 patches/s to 1 000 watchers: from sending a command to the last that read it
#   stopped   900 watchers, beside 100 that never read, and without these
#   idle      memory of 15 000 idle streams: of one session, and of 1 500
#   resume    1 000 watchers that come back at once after kill -9
#   socket    commands pipelined over one WebSocket
#
# Normal path: build the server and the programs of this folder (release, in build/), and for each
# part start a server on an empty directory, measure, and print rows of a markdown table with the
# goals, the server's counters of slow watchers, and how busy both sides were. What is compared is
# measured in alternating rounds (default 5 of 5 s), and rows are medians. The server has one shard
# on core 0, as have nchan's worker and the bare loop; `watch`, which both reads all streams and
# writes, has the last core. Data lies in DIR/watching.* (default build/) and is removed at the end,
# however it ends.
#
# Everything that watchers are told is checked: no gap, no repetition, and at the end all of it.
# --scale 0.05 makes the numbers of watchers and events that much smaller: a try-out, whose figures
# say nothing about the goals.
# Exit status: 0, 1 when a check or a program fails (at once), 3 when only a goal is missed.
# shellcheck disable=SC2015,SC2059,SC2317
set -euo pipefail
export LC_ALL=C
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=deploy/packages.sh
source "$root/deploy/packages.sh"
# shellcheck source=loadtest/measure.sh
source "$root/loadtest/measure.sh"

all_parts="fanout merged latency stopped idle resume socket"
rounds=5 seconds=5 scale=1 build=$root/build dir="" parts=() must_build=yes atoll_options=()
while (($#)); do
    case $1 in
    --scale) scale=${2:?} && shift 2 ;;
    --rounds) rounds=${2:?} && shift 2 ;;
    --seconds) seconds=${2:?} && shift 2 ;;
    --dir) dir=${2:?} && shift 2 ;;
    --build) build=${2:?} && shift 2 ;;
    --no-build) must_build="" && shift ;;
    --atoll-option) atoll_options+=("${2:?}") && shift 2 ;;
    *)
        [[ " $all_parts " == *" $1 "* ]] || {
            echo "usage: loadtest/watching.sh [--rounds N] [--seconds N] [--scale F] [--dir DIR]" \
                "[--build DIR] [--no-build] [--atoll-option OPTION]... [PART]..." >&2
            echo "a PART is one of: $all_parts" >&2
            exit 2
        }
        parts+=("$1") && shift
        ;;
    esac
done
# shellcheck disable=SC2206
((${#parts[@]})) || parts=($all_parts)

(($(nproc) >= 2)) || fail "needs two cores, one for the server and one for the load"
(($(ulimit -Hn) >= 16000)) || fail "a process may open only $(ulimit -Hn) files, not 16000"
ulimit -n "$(ulimit -Hn)"
need_packages "${atoll_packages[@]}" libcurl4-openssl-dev libjansson-dev curl util-linux
if [[ -n $must_build ]]; then # else the tree's programs are taken as they are
    note "Building"
    for target in atoll fill latency watch sendloop socket; do
        build_tree "$build" "$target" -DCMAKE_BUILD_TYPE=Release -DATOLL_LOADTEST=ON
    done
fi

atoll=$build/atoll programs=$build/loadtest last_core=$(($(nproc) - 1))
tmp=$(mktemp -d "${dir:-$build}/watching.XXXXXX")
data=$tmp/data pid="" url="" other_pid="" other_url=""
cleanup() {
    { [[ -z $pid ]] || kill -KILL "$pid"; } 2>/dev/null || true
    # nginx ends its worker itself, if it is asked to.
    { [[ -z $other_pid ]] || kill -TERM "$other_pid"; } 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$tmp"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# scaled N [LEAST]: N times the scale.
scaled() {
    awk "BEGIN { n = int($1 * $scale + 0.5); print n < ${2:-1} ? ${2:-1} : n }"
}

# ---- the server, and what it is compared with

# until_it_listens NAME PID: waits for the URL that a program prints; sets found.
until_it_listens() {
    local tries=0
    until found=$(grep -m1 -o 'http://[^ ]*' "$tmp/$1.out"); do
        kill -0 "$2" 2>/dev/null && ((++tries < 6000)) ||
            fail "$1 did not start: $(tail -n 3 "$tmp/$1.err")"
        sleep 0.01
    done
}

# start OPTION...: a server on $data; sets pid, url, start_s (until it says its URL).
start() {
    local began=$EPOCHREALTIME
    : >"$tmp/atoll.out"
    taskset -c 0 "$atoll" serve --shards 1 --durability commit --listen 127.0.0.1:0 \
        --data "$data" --max-connections 20000 "$@" ${atoll_options[@]+"${atoll_options[@]}"} \
        >"$tmp/atoll.out" 2>>"$tmp/atoll.err" &
    pid=$!
    until_it_listens atoll "$pid"
    url=$found
    start_s=$(calc "$EPOCHREALTIME - $began")
}

# crash: kill -9.
crash() {
    kill -KILL "$pid"
    wait "$pid" 2>/dev/null || true
    pid=""
}

# begin PART OPTION...: a server on an empty directory.
begin() {
    note "$1"
    rm -rf "$data"
    start "${@:2}"
}

# finish PART: a row for each counter of slow watchers that is not 0, and the server stops.
finish() {
    local name value
    while read -r name value; do
        ((value == 0)) || row "$1: \"$name\" of all that, by /v1/status" "$value" "" ""
    done < <(counters)
    kill -TERM "$pid"
    wait "$pid" || fail "the server stopped with status $?: $(tail -n 3 "$tmp/atoll.err")"
    pid=""
}

# counters: those of /v1/status that say how streams are doing, summed over reactors and shards.
counters() {
    curl -sf "$url/v1/status" | grep -oE '"[a-z0-9_]+":[0-9]+' | tr -d '"' |
        grep -E 'stream|watch|merge|reset|snapshots_|lag|cut|slow|unread|feed|composed|socket' |
        awk -F: '{ sum[$1] += $2 } END { for (name in sum) print name, sum[name] }' | sort
}

start_sendloop() {
    taskset -c 0 "$programs/sendloop" --listen 127.0.0.1:0 --watchers "$1" --frames "${2:-1}" \
        >"$tmp/sendloop.out" 2>"$tmp/sendloop.err" &
    other_pid=$!
    until_it_listens sendloop "$other_pid"
    other_url=$found
}

nchan_module=/usr/lib/nginx/modules/ngx_nchan_module.so

# free_port: one that nobody listens on now.
free_port() {
    local port
    while port=$((20000 + RANDOM % 8000)); do
        { : >"/dev/tcp/127.0.0.1/$port"; } 2>/dev/null || break
    done
    printf '%s\n' "$port"
}

start_nchan() {
    local port tries=0
    port=$(free_port)
    rm -rf "$tmp/nchan"
    mkdir "$tmp/nchan"
    sed "s|@MODULE@|$nchan_module|; s|@ADDRESS@|127.0.0.1:$port|" "$root/loadtest/nchan.conf" \
        >"$tmp/nchan/nginx.conf"
    taskset -c 0 nginx -p "$tmp/nchan" -c "$tmp/nchan/nginx.conf" -e "$tmp/nchan/error.log" \
        >"$tmp/nchan.out" 2>"$tmp/nchan.err" &
    other_pid=$!
    other_url=http://127.0.0.1:$port
    until curl -s -o "$tmp/answer" "$other_url/subscribe"; do
        kill -0 "$other_pid" 2>/dev/null && ((++tries < 1000)) ||
            fail "nginx did not start: $(tail -n 3 "$tmp/nchan.err")"
        sleep 0.01
    done
    nchan_worker=$(tr -d ' ' <"/proc/$other_pid/task/$other_pid/children")
    [[ -d /proc/$nchan_worker ]] || fail "nginx has not one worker"
}

stop_other() {
    kill -TERM "$other_pid" 2>/dev/null || true
    wait "$other_pid" 2>/dev/null || true
    other_pid=""
}

# ---- load

fill() {
    "$programs/fill" --url "$url" "$@" >"$tmp/fill.out" || fail "fill $* has failed"
}

# watch OPTION...: runs it; sets out, of which field NAME gives one.
watch() {
    out=$(taskset -c "$last_core" "$programs/watch" "$@") || fail "watch $* has failed"
    note "    $out"
}

# on_atoll OPTION...: watch, of the server that was started.
on_atoll() {
    watch --url "$url" --server-pid "$pid" --seconds "$seconds" "$@"
}

field() {
    local from=" $out"
    [[ $from == *" $1="* ]] || fail "no $1 in: $out"
    from=${from##*" $1="}
    printf '%s\n' "${from%% *}"
}

# keep_fields KEY NAME...: KEY.NAME becomes another sample for each.
keep_fields() {
    local name
    for name in "${@:2}"; do
        keep "$1.$name" "$(field "$name")"
    done
}

unmerged() {
    (($(field merged) + $(field resets) == 0)) ||
        fail "$(field merged) merged patches, $(field resets) resets where none were expected: $out"
}

same_frame() {
    awk "BEGIN { exit !($(field bytes_each) > 212 && $(field bytes_each) < 228) }" ||
        fail "a frame has $(field bytes_each) bytes, not about 220"
}

# busy KEY: both sides' load, for the name of a row.
busy() {
    printf 'server %.0f %%, reader %.0f %% of a core, %.1f frames a read' \
        "$(median "$1.server_cpu")" "$(median "$1.cpu")" "$(median "$1.a_read")"
}

# ---- the parts

# fanout_round: each of the three once.
fanout_round() {
    local watchers=$1 ahead
    local figures=(patches_per_s server_cpu cpu a_read)
    for ahead in 4 32; do
        on_atoll --watchers "$watchers" --writers 16 --ahead "$ahead"
        unmerged
        same_frame
        keep_fields "fanout.atoll$ahead" "${figures[@]}" events_per_s
    done
    start_sendloop "$watchers"
    watch --url "$other_url" --server-pid "$other_pid" --seconds "$seconds" --from 0 \
        --watchers "$watchers"
    same_frame
    keep_fields fanout.sendloop "${figures[@]}"
    stop_other
    for ahead in 4 32; do
        start_nchan
        watch --url "$other_url" --server-pid "$nchan_worker" --seconds "$seconds" --from 0 \
            --watchers "$watchers" --path /subscribe --post /publish --write raw --writers 16 \
            --ahead "$ahead"
        same_frame
        keep_fields "fanout.nchan$ahead" "${figures[@]}" events_per_s
        stop_other
    done
}

part_fanout() {
    local watchers round key
    watchers=$(scaled 1000)
    need_packages nginx-light libnginx-mod-nchan
    begin fanout
    fill --prefix w --events 3
    for ((round = 0; round <= rounds; round++)); do
        note "fanout: round $round of $rounds (0 is to warm up)"
        fanout_round "$watchers"
        ((round > 0)) || rm -f "$tmp"/fanout.*.samples
    done
    for key in atoll32 atoll4 sendloop nchan32 nchan4; do
        note "fanout.$key: $(busy "fanout.$key")"
    done
    fanout_row() {
        row "deliveries/s, $watchers watchers, $1: Atoll ($(busy "fanout.$2")), $4 \
($(busy "fanout.$3"))" "$(integer "fanout.$2")" "$(integer "fanout.$3")" "$5"
    }
    fanout_row "up to 32 events on the way" atoll32 sendloop "a bare loop of send()" ">= 0.8"
    fanout_row "up to 32 events on the way" atoll32 nchan32 nchan ">= 1.3"
    fanout_row "up to 4 events on the way" atoll4 sendloop "a bare loop of send()" ""
    fanout_row "up to 4 events on the way" atoll4 nchan4 nchan ""
    start_sendloop "$watchers" 64
    watch --url "$other_url" --server-pid "$other_pid" --seconds "$seconds" --from 0 \
        --watchers "$watchers"
    stop_other
    row "deliveries/s that the reader can take: 64 frames a send (reader $(field cpu) %)" \
        "$(field patches_per_s)" "" ""
    finish fanout
}

integer() {
    printf '%.0f' "$(median "$1.patches_per_s")"
}

part_merged() {
    local watchers round
    watchers=$(scaled 1000)
    begin merged
    fill --prefix w --events 3
    for ((round = 0; round <= rounds; round++)); do
        note "merged: round $round of $rounds (0 is to warm up)"
        on_atoll --watchers "$watchers" --writers 8 --batch 100
        keep_fields merged.note patches_per_s messages_per_s events_per_s server_cpu cpu a_read
        on_atoll --watchers "$watchers" --writers 8 --batch 100 --write message --bytes 64
        keep_fields merged.message patches_per_s messages_per_s events_per_s server_cpu cpu a_read
        on_atoll --watchers "$watchers" --writers 64
        keep_fields merged.single patches_per_s messages_per_s events_per_s server_cpu cpu a_read
        ((round > 0)) || rm -f "$tmp"/merged.*.samples
    done
    merged_row() {
        row "patches/s, $watchers watchers, $2: $(printf '%.0f' "$(median "merged.$1.events_per_s")") \
events/s as $(printf '%.0f' "$(median "merged.$1.messages_per_s")") messages/s ($(busy "merged.$1"))" \
            "$(integer "merged.$1")" "" ">= 2e6"
    }
    merged_row note "8 writers of an agent's note, batches of 100"
    merged_row message "8 writers of 64-byte messages, batches of 100"
    merged_row single "64 writers of an agent's note, single commands"
    finish merged
}

part_latency() {
    local watchers round name
    watchers=$(scaled 1000)
    begin latency
    fill --prefix w --events 3
    for ((round = 0; round <= rounds; round++)); do
        note "latency: round $round of $rounds (0 is to warm up)"
        on_atoll --watchers "$watchers" --writers 1 --rate 50 --seconds "$(calc "4 * $seconds")"
        unmerged
        keep_fields latency late {answer,last,after}_{p50,p99,max}_us
        ((round > 0)) || rm -f "$tmp"/latency.*.samples
    done
    latency_row() {
        row "us, $watchers watchers, 50 patches/s, $1: p50 $(median "latency.$2_p50_us"), max \
$(median "latency.$2_max_us"); p99" "$(median "latency.$2_p99_us")" "" "$3"
    }
    latency_row "from sending the command to its answer" answer ""
    latency_row "from sending the command until the last has read it" last "<= 20000"
    latency_row "from its answer until the last has read it" after "<= 20000"
    finish latency
}

# stopped_round NAME OPTION...: with and without; who is first changes.
stopped_round() {
    local name=$1 with stopped
    stopped=$(scaled 100)
    for with in $( ((round % 2)) && echo "0 $stopped" || echo "$stopped 0"); do
        on_atoll --watchers "$(scaled 900)" --warmup 3 --stopped "$with" "${@:2}"
        ((with == 0)) || (($(field stopped_merged) + $(field stopped_resets) > 0)) ||
            note "stopped: nobody was left behind; the round says little"
        keep_fields "stopped.$name.$((with > 0))" patches_per_s events_per_s answer_p50_us \
            answer_p99_us server_cpu cpu a_read
    done
}

part_stopped() {
    local round
    begin stopped
    fill --prefix w --events 3
    for ((round = 0; round <= rounds; round++)); do
        note "stopped: round $round of $rounds (0 is to warm up)"
        stopped_round steady --writers 1 --rate 100
        stopped_round paced --writers 16 --ahead 32
        stopped_round fast --writers 8 --batch 100
        ((round > 0)) || rm -f "$tmp"/stopped.*.samples
    done
    stopped_row() {
        row "$3, $2, beside $(scaled 100) stopped ones (without)" \
            "$(median "stopped.$1.1.$4")" "$(median "stopped.$1.0.$4")" "$5"
    }
    local name what
    for name in steady paced fast; do
        case $name in
        steady) what="one writer, 100 commands/s" ;;
        paced) what="16 writers, up to 32 events on the way" ;;
        fast) what="8 writers, batches of 100, merged" ;;
        esac
        [[ $name == steady ]] ||
            stopped_row "$name" "$what" "events/s of the writers" events_per_s ">= 0.95"
        [[ $name == steady ]] ||
            stopped_row "$name" "$what" "patches/s to $(scaled 900) watchers" patches_per_s ">= 0.95"
        stopped_row "$name" "$what" "p50 us of an answer" answer_p50_us "<= 1.10"
        stopped_row "$name" "$what" "p99 us of an answer" answer_p99_us ""
        [[ $name != steady ]] || stopped_row "$name" "$what" "server CPU, %" server_cpu ""
    done
    finish stopped
}

# memory: the server's own, page tables included, in bytes.
memory() {
    awk '/^(VmRSS|VmPTE)/ { sum += $2 * 1024 } END { printf "%.0f\n", sum }' "/proc/$pid/status"
}

# kernel_memory: of sockets, files and epoll sets, in bytes, of all processes. What earlier sockets
# leave behind is given back late, so it is about right only where there are many new ones.
kernel_memory() {
    awk '/^(Slab|KernelStack)/ { sum += $2 * 1024 } END { printf "%.0f\n", sum }' /proc/meminfo
}

# idle_streams SESSIONS
idle_streams() {
    local sessions=$1 streams before after kernel tries=0 watcher
    streams=$(scaled 15000)
    begin "idle, $sessions sessions"
    fill --prefix w --sessions "$sessions" --events 3
    curl -sf -o "$tmp/answer" "$url/v1/status"
    before=$(memory) kernel=$(kernel_memory)
    : >"$tmp/hold"
    taskset -c "$last_core" "$programs/watch" --url "$url" --watchers "$streams" \
        --sessions "$sessions" --hold >"$tmp/hold" 2>"$tmp/hold.err" &
    watcher=$!
    until grep -q begun= "$tmp/hold"; do
        kill -0 "$watcher" 2>/dev/null && ((++tries < 1200)) ||
            fail "watch: $(<"$tmp/hold.err")"
        sleep 0.1
    done
    note "    $(<"$tmp/hold")"
    after=$(memory)
    row "bytes of the server for each of $streams idle streams, $sessions session(s), as they begin" \
        "$(calc "($after - $before) / $streams")" "" "<= 10240"
    sleep 20 # a heartbeat has come to each
    after=$(memory)
    row "the same 20 s later, when each has had a heartbeat" \
        "$(calc "($after - $before) / $streams")" "" "<= 10240"
    row "bytes of the kernel's slabs for each, both ends of the connection" \
        "$(calc "($(kernel_memory) - $kernel) / $streams")" "" ""
    row "server CPU, % of a core, idle for 10 s" "$(idle_percent)" "" ""
    kill -TERM "$watcher"
    wait "$watcher" || fail "watch: $(<"$tmp/hold.err")"
    finish "idle, $sessions session(s)"
}

idle_percent() {
    local before
    before=$(cpu_ms "$pid")
    sleep 10
    calc "($(cpu_ms "$pid") - $before) / 100"
}

part_idle() {
    idle_streams 1
    idle_streams "$(scaled 1500)"
}

# stream_id: that of the session's state as it is now.
stream_id() {
    local line="" fd reader
    exec {fd}< <(exec curl -sN "$url/v1/sessions/w0/stream")
    reader=$!
    until [[ $line == id:* ]]; do
        read -r line <&"$fd" || fail "a stream without an id"
    done
    kill "$reader"
    exec {fd}<&-
    printf '%s\n' "${line#id: }"
}

# resume_round EVENTS: that many are missed, the server is killed, and all come back at once.
resume_round() {
    local missed=$1 id seq head
    rm -rf "$data"
    start
    fill --prefix w --events 10000 --batch 100 --bytes 220
    id=$(stream_id)
    seq=$(cut -d- -f2 <<<"$id")
    "$programs/latency" --url "$url" --connections 16 --count "$missed" \
        /v1/sessions/w0/commands "$message" >"$tmp/answer" || fail "events could not be written"
    head=$(stream_id | cut -d- -f2)
    ((head == seq + missed)) || fail "the session stands at $head, not at $((seq + missed))"
    crash
    start
    watch --url "$url" --watchers "$(scaled 1000)" --from "$seq" --last-event-id "$id" \
        --until "$head"
    (($(field resets) == 0)) || fail "$(field resets) watchers began anew instead of going on"
    keep_fields "resume$missed" first_ms level_ms MB
    keep "resume$missed.all_ms" "$(calc "$start_s * 1000 + $(field level_ms)")"
}

part_resume() {
    local round missed what message
    message=$(printf '{"type":"message.send","thread":"work","sender":"a1","content":"%0100d"}' 0)
    note resume
    for ((round = 1; round <= rounds; round++)); do
        for missed in 100 1000; do
            note "resume: round $round of $rounds, $missed events missed"
            resume_round "$missed"
            ((round == rounds && missed == 1000)) || crash
        done
    done
    for missed in 100 1000; do
        what="$(scaled 1000) watchers come back after kill -9, $missed events missed"
        row "ms until the last has its first patch, $what" "$(median "resume$missed.first_ms")" \
            "" "< 2000"
        row "ms until the last is level ($(median "resume$missed.MB") MB to all)" \
            "$(median "resume$missed.level_ms")" "" "< 2000"
        row "the same with the server's start" "$(median "resume$missed.all_ms")" "" "< 2000"
    done
    finish resume
}

# socket_run KEY OPTION...
socket_run() {
    out=$(taskset -c "$last_core" "$programs/socket" --url "$url" --server-pid "$pid" \
        --seconds "$seconds" "${@:2}") || fail "socket ${*:2} has failed"
    note "    $out"
    keep_fields "socket.$1" per_s patches messages merged resets server_cpu cpu answer_p50_us \
        answer_p99_us
}

part_socket() {
    local round window
    begin socket
    fill --prefix w --events 3
    for ((round = 0; round <= rounds; round++)); do
        note "socket: round $round of $rounds (0 is to warm up)"
        for window in 256 1024 4096; do
            socket_run "all$window" --window "$window"
            socket_run "none$window" --window "$window" --path "/v1/sessions/w0/ws?path=/labels"
        done
        ((round > 0)) || rm -f "$tmp"/socket.*.samples
    done
    socket_row() {
        row "commands/s over one WebSocket, $2 unanswered, $3 (p50 $(median \
            "socket.$1$2.answer_p50_us"), p99 $(median "socket.$1$2.answer_p99_us") us; server \
$(median "socket.$1$2.server_cpu") %, client $(median "socket.$1$2.cpu") % of a core)" \
            "$(median "socket.$1$2.per_s")" "" "$4"
    }
    for window in 256 1024 4096; do
        socket_row all "$window" "which also tells the session" \
            "$( ((window < 4096)) || echo '>= 300000')"
        socket_row none "$window" "which tells nothing else (path=/labels)" ""
    done
    finish socket
}

line='| %-120s | %10s | %10s | %6s | %-9s | %-3s |\n'
cat <<EOT
$(machine), medians of $rounds rounds of $seconds s, scale $scale

EOT
printf "$line" What Atoll Beside Ratio Goal Met --- --: --: --: --- ---
for part in "${parts[@]}"; do
    "part_$part"
done
exit "$missed"
