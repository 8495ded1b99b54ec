#!/usr/bin/env bash
# Atoll beside what one would take instead, and beside the machine's own limits:
#   loadtest/compare.sh [--rounds N] [--seconds N] [--rows NAME[,NAME]…] [--quick]
#       [--transcript FILE] [--json FILE] [--html FILE] [--dir DIR] [--build DIR] [--no-build]
#
# Rows: `node loadtest/compare.mjs rows` names them, and compare.mjs says what each compares.
#
# Normal path: install and build what is missing (release, in build/), then, group by group, measure
# each side of it in every round (default 5 rounds of 5 s), one after the other and in the other
# order in every second round, and print a markdown table of medians with the goals, and the
# configuration of each rival. For every single run a server is started on an empty directory, and
# what was written before has reached the disk. The raw rounds go to --json (default
# build/compare.json), and with charts to --html (default build/compare.html).
#
# Server and rival each have one thread on core 0 and the load has the last core; where a row says
# "default", nothing is pinned, Atoll has a reactor for each core, and the rival its own defaults.
# Every run of atoll-load reads back what it has written, and what it finds wrong is told in the
# row: no goal is judged by such a run of Atoll, nor by fan-out that was merged or had other frames.
# --quick is a first impression: the main rows, one round of a second; its figures say little.
# --transcript FILE is what the row `real` sends (see README.md; default loadtest/data/team.ndjson).
# Exit status: 0, 1 when a check or a program fails, 2 for wrong options, 3 when only a goal is
# missed.
# shellcheck disable=SC2015,SC2154,SC2317
set -euo pipefail
export LC_ALL=C
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=deploy/packages.sh
source "$root/deploy/packages.sh"
# shellcheck source=loadtest/measure.sh
source "$root/loadtest/measure.sh"
compare=("node" "$root/loadtest/compare.mjs")

refuse() {
    printf 'compare.sh: %s\n' "$*" >&2
    exit 2
}

rounds="" seconds="" rows=() quick="" build=$root/build dir="" must_build=yes
transcript=$root/loadtest/data/team.ndjson json="" html=""
while (($#)); do
    case $1 in
    --quick) quick=yes && shift && continue ;;
    --no-build) must_build="" && shift && continue ;;
    --rounds | --seconds | --rows | --transcript | --json | --html | --dir | --build) ;;
    *) refuse "there is no option \"$1\"; the head of the script names all" ;;
    esac
    [[ ${2:-} ]] || refuse "$1 needs a value"
    case $1 in
    --rounds) rounds=$2 ;;
    --seconds) seconds=$2 ;;
    --rows) IFS=', ' read -ra more <<<"$2" && rows+=("${more[@]}") ;;
    --transcript) transcript=$2 ;;
    --json) json=$2 ;;
    --html) html=$2 ;;
    --dir) dir=$2 ;;
    --build) build=$2 ;;
    esac
    shift 2
done
rounds=${rounds:-$([[ $quick ]] && echo 1 || echo 5)}
seconds=${seconds:-$([[ $quick ]] && echo 1 || echo 5)}
[[ $rounds =~ ^[1-9][0-9]?$ ]] || refuse "--rounds is 1 to 99, not \"$rounds\""
[[ $seconds =~ ^[1-9][0-9]{0,2}$ ]] || refuse "--seconds is 1 to 999, not \"$seconds\""
[[ -r $transcript ]] || refuse "--transcript: \"$transcript\" cannot be read"
(($(nproc) >= 2)) || fail "needs two cores, one for the server and one for the load"
need_packages "${atoll_packages[@]}" libcurl4-openssl-dev libjansson-dev curl util-linux

if ((${#rows[@]} == 0)); then
    [[ ! $quick ]] || rows=(post cpu redis batch batch-redis latency)
    [[ $quick ]] || mapfile -t rows < <("${compare[@]}" rows)
fi
plan=$("${compare[@]}" plan "${rows[@]}") || exit 2
needs() {
    grep -qE " ($1)(-default)?( |\$)" <<<"$plan"
}
needs_group() {
    grep -q "^$1 " <<<"$plan"
}

# ---- what is needed, and the build

options=(-DCMAKE_BUILD_TYPE=Release -DATOLL_LOADTEST=ON)
targets=(atoll loadtest-programs)
! needs redis || need_packages redis-server
! needs nchan || need_packages nginx-light libnginx-mod-nchan
! needs wrk || need_packages wrk
! needs wrk-h2o || need_packages wrk
if needs nats; then
    need_packages nats-server libnats-dev e2fsprogs
    options+=(-DATOLL_RIVALS=ON) targets+=(nats-load)
fi
if needs_group instructions; then
    need_packages valgrind libcmocka-dev libwslay-dev
    options+=(-DATOLL_TESTS=ON) targets+=(instructions)
fi
if needs sse && [[ ! -d $root/loadtest/rivals/node_modules/better-sse ]]; then
    npm --prefix "$root/loadtest/rivals" ci --silent >&2
fi
if [[ $must_build ]]; then
    note "Building"
    for target in "${targets[@]}"; do
        build_tree "$build" "$target" "${options[@]}"
    done
fi
atoll=$build/atoll programs=$build/loadtest rivals=$root/loadtest/rivals
json=${json:-$build/compare.json} html=${html:-$build/compare.html}
last_core=$(($(nproc) - 1))
ulimit -n "$(ulimit -Hn)"

tmp=$(mktemp -d "${dir:-$build}/compare.XXXXXX")
data=$tmp/data found=$tmp/found pid="" measured_pid="" url=""
mkdir "$found"
stop() {
    [[ -z $pid ]] || { kill -TERM "$pid" && wait "$pid"; } 2>/dev/null || true
    pid=""
}
cleanup() {
    stop
    rm -rf "$tmp"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# ---- servers. Each start_… runs one on $data and says where it is in url; what it costs is told
# of the process measured_pid (empty: of none). The variable cores is what `taskset -c` takes.

# launch URL COMMAND...: runs it; URL "": the one that it prints.
launch() {
    local tries=0 name=${2##*/}
    url=$1
    : >"$tmp/out"
    taskset -c "$cores" "${@:2}" >"$tmp/out" 2>"$tmp/err" &
    pid=$! measured_pid=$!
    until [[ -n $1 ]] && { : >"/dev/tcp/127.0.0.1/${url##*:}"; } 2>/dev/null ||
        { [[ -z $1 ]] && url=$(grep -m1 -o 'http://[^ ]*' "$tmp/out"); }; do
        kill -0 "$pid" 2>/dev/null && ((++tries < 1000)) ||
            fail "$name did not start: $(tail -n 3 "$tmp/err" "$tmp/out")"
        sleep 0.02
    done
}

# template FILE NAME=VALUE...: a rival's configuration, with @NAME@ put in, to $tmp/conf.
template() {
    local text setting
    text=$(<"$rivals/$1")
    for setting in "${@:2}"; do
        text=${text//"@${setting%%=*}@"/"${setting#*=}"}
    done
    printf '%s\n' "$text" >"$tmp/conf"
}

start_atoll() {
    launch "" "$atoll" serve --durability commit --listen 127.0.0.1:0 --data "$data" "$@"
}

# Its answers are as long as Atoll's.
start_h2o() {
    launch "" "$programs/baseline-h2o" --listen 127.0.0.1:0 --threads "$1" \
        --answer-bytes "$answer_bytes"
}

start_redis() {
    local port
    port=$(free_port)
    template redis.conf "DIR=$data" "PORT=$port"
    launch "http://127.0.0.1:$port" redis-server "$tmp/conf"
}

start_redis-default() {
    local port
    port=$(free_port)
    launch "http://127.0.0.1:$port" redis-server --port "$port" --dir "$data"
}

start_nats() {
    chattr +S "$data" || fail "NATS needs a file system with synchronous files (chattr +S): $data"
    start_nats-default
}

start_nats-default() {
    local port
    port=$(free_port)
    template nats.conf "DIR=$data" "ADDRESS=127.0.0.1:$port"
    launch "nats://127.0.0.1:$port" nats-server -c "$tmp/conf"
}

# start_nchan WORKERS: by default nginx's one, with "auto" the one of Debian's package.
start_nchan() {
    local port workers
    port=$(free_port)
    template nchan.conf "ADDRESS=127.0.0.1:$port" MODULE=/usr/lib/nginx/modules/ngx_nchan_module.so
    sed -i "s/^worker_processes 1;/worker_processes $1;/" "$tmp/conf"
    launch "http://127.0.0.1:$port" nginx -p "$data" -c "$tmp/conf" -e "$data/error.log"
    until curl -s -o "$tmp/answer" "$url/publish" &&
        read -ra workers < <(cat "/proc/$pid/task/$pid/children" && echo); do
        sleep 0.02
    done
    measured_pid=${workers[0]}
    ((${#workers[@]} == 1)) || measured_pid="" # what several cost is not told
}

start_sse() {
    launch "" node "$rivals/sse.mjs" --listen 127.0.0.1:0
}

start_sendloop() {
    launch "" "$programs/sendloop" --listen 127.0.0.1:0 --watchers 1000
}

# As many frames in a send() as a watcher of Atoll has had in a read, so far.
frames=""
start_sendloop-frames() {
    frames=$("${compare[@]}" median "$found" fanout atoll a_read)
    frames=${frames:+$(awk "BEGIN { n = int($frames + 0.5); print n < 1 ? 1 : n }")}
    launch "" "$programs/sendloop" --listen 127.0.0.1:0 --watchers 1000 --frames "${frames:-1}"
}

# start SIDE: one thread on core 0, or as SIDE says.
start() {
    cores=0 load_cores=$last_core
    case $1 in
    *-default) cores=0-$last_core load_cores=0-$last_core ;;
    atoll-two) cores=0,1 load_cores=$(($(nproc) > 2 ? 2 : 0))-$last_core ;;
    esac
    case $1 in
    atoll | wrk) start_atoll --shards 1 ;;
    atoll-two) start_atoll --shards 2 ;;
    atoll-default) start_atoll ;;
    h2o | wrk-h2o) start_h2o 1 ;;
    h2o-default) start_h2o "$(nproc)" ;;
    nchan) start_nchan 1 ;;
    nchan-default) start_nchan auto ;;
    disk* | instructions) ;; # no server
    *) "start_$1" ;;
    esac
}

# ---- load

# problem TEXT: there are no figures of this run, but the others go on.
problem() {
    TEXT=$1 node -p 'JSON.stringify({ problems: [process.env.TEXT] })' >"$file"
}

# run PROGRAM ARGUMENT...: writes $file.
run() {
    local status=0
    taskset -c "$load_cores" "$@" --json "$file" >"$tmp/load.out" 2>"$tmp/load.err" || status=$?
    ((status == 0)) || [[ $status == 1 && -s $file ]] ||
        problem "${1##*/} has failed: $(tail -n 1 "$tmp/load.err")"
}

# target: what atoll-load calls the side.
target() {
    case $group,$side in
    *,atoll*) echo atoll ;;
    *,redis*) echo redis ;;
    fanout*) echo "${side%%-*}" ;;
    *) echo http ;;
    esac
}

# load MODE OPTION...: atoll-load of the server that was started.
load() {
    run "$programs/atoll-load" "$1" --url "$url" ${measured_pid:+--pid "$measured_pid"} \
        --seconds "$seconds" --quiet --target "$(target)" "${@:2}"
}

load_nats() {
    run "$programs/nats-load" --url "$url" --pid "$measured_pid" --seconds "$seconds" "$@"
}

# wrk verifies nothing, and has no figures of the server; the sessions it writes to have to be
# there. Its first second is not measured, as with atoll-load.
load_wrk() {
    local requests=0 us=0 bad=0 duration
    [[ $side == wrk-h2o ]] || "$programs/atoll-load" post --url "$url" --seconds 0.1 --warmup 0 \
        --connections 16 --quiet >"$tmp/load.out" 2>&1 || true
    for duration in 1 "$seconds"; do
        taskset -c "$load_cores" wrk -t1 -c256 -d"$duration" -s "$rivals/wrk.lua" "$url" -- 256 \
            >"$tmp/load.out" 2>&1 || true
    done
    read -r requests us bad _ < <(sed -n 's/^wrk //p' "$tmp/load.out" |
        sed 's/[a-z0-9_]*=//g') || true
    if ((requests > 0 && bad == 0)); then
        printf '{"mode":"wrk","figures":{"operations":%s,"per_s":%s}}\n' "$requests" \
            "$(calc "$requests * 1e6 / $us")" >"$file"
    else
        problem "wrk: $requests answers, $bad bad: $(tail -n 1 "$tmp/load.out")"
    fi
}

load_post() {
    case $side in
    nats*) load_nats --outstanding 256 --streams 256 ;;
    wrk*) load_wrk ;;
    nchan*) load post --connections 256 --path '/publish/{}' ;;
    sse*) load post --connections 256 --path /publish ;;
    *) load post --connections 256 ;;
    esac
}

# Half of what the same server has answered a second in the rounds of the group `post`.
load_half() {
    local peak
    peak=$("${compare[@]}" median "$found" post "$side" per_s)
    if [[ $peak ]]; then
        load post --connections 256 --rate "$(calc "$peak / 2")"
    else
        problem "its peak rate could not be measured"
    fi
}

load_batch() {
    case $side in
    nats*) load_nats --outstanding 1600 --streams 1 ;;
    *) load batch --batch 100 --connections 16 --sessions 1 ;;
    esac
}

# The disk writes what a commit of Atoll has written.
commit_bytes=256
load_disk() {
    run "$programs/disk" "$data/segment" --seconds "$seconds" --bytes "$commit_bytes" "$@"
}

load_latency() {
    case $side in
    nats*) load_nats --outstanding 1 --streams 1 ;;
    disk) load_disk ;;
    disk-direct) load_disk --direct ;;
    *) load post --connections 1 --sessions 1 ;;
    esac
    [[ $side != atoll ]] || commit_bytes=$(curl -sf "$url/v1/status" |
        grep -o '"log":{"commits":[0-9]*,"records":[0-9]*,"bytes":[0-9]*' | tr -dc '0-9,\n' |
        awk -F, '$1 > 0 { printf "%.0f", $3 / $1; exit }') || fail "Atoll does not tell of its log"
}

# To 1 000 watchers of one session. The bare loop writes by itself.
load_fanout() {
    case $side in
    sendloop) load watch --watchers 1000 ;;
    sendloop-frames)
        if [[ $frames ]]; then
            load watch --watchers 1000
        else
            problem "the frames a read of Atoll could not be measured"
        fi
        ;;
    *) load watch --watchers 1000 --writers 16 --ahead 32 ;;
    esac
}

load_fanout-rate() {
    load watch --watchers 1000 --writers 1 --rate 100
}

load_real() {
    load mixed --only messages --file "$transcript" --connections 64
}

load_large() {
    load post --connections 64 --payload 2048
}

idle_ns() {
    awk '{ sum += $1 } END { printf "%.0f", sum }' /proc/"$pid"/task/*/schedstat
}

# Nobody is connected, and nothing has been.
load_idle() {
    local rss_mb before
    rss_mb=$(awk '/^VmRSS/ { printf "%.1f", $2 * 1024 / 1e6 }' "/proc/$pid/status")
    sleep 1 # to be over with the start
    before=$(idle_ns)
    sleep 10
    printf '{"mode":"idle","figures":{"idle_percent":%s,"start_rss_mb":%s}}\n' \
        "$(calc "($(idle_ns) - $before) / 1e10 * 100")" "$rss_mb" >"$file"
}

# Counted, not timed: the same in every round. check.mjs also compares with its table, which is not
# asked here.
load_instructions() {
    local count
    ((round == 1)) || return 0
    node "$root/tests/instructions/check.mjs" --program "$build/tests/instructions" \
        --only 'message.send, 130 bytes|' >"$tmp/load.out" 2>&1 || true
    count=$(sed -n 's/^| core work[^|]*| \([^|]*\) |$/\1/p' "$tmp/load.out" | tr -dc 0-9)
    if [[ $count ]]; then
        printf '{"mode":"instructions","figures":{"core_instructions":%s}}\n' "$count" >"$file"
    else
        problem "they could not be counted: $(tail -n 1 "$tmp/load.out")"
    fi
}

# answer_to BODY: of a server that was just started, to $tmp/answer.
answer_to() {
    curl -sf -o "$tmp/answer" -H 'Content-Type: application/json' -d "$1" \
        "$url/v1/sessions/s0/commands" || fail "Atoll refused $1"
}

# learn_answer_bytes: how long Atoll's answer to one message with 64 bytes of content is.
learn_answer_bytes() {
    mkdir "$data"
    start atoll
    answer_to '[{"type":"session.create"},{"type":"agent.register","agent":"a1"},
        {"type":"thread.create","thread":"work","creator":"a1","name":"work","participants":[]}]'
    answer_to '{"type":"message.send","thread":"work","sender":"a1","content":"'"$(
        printf '%064d' 0)"'"}'
    answer_bytes=$(wc -c <"$tmp/answer")
    stop
}

# ---- what is told of the rivals

# settings FILE: without comments and empty lines.
settings() {
    sed -E '/^\s*(#|$)/d; s/^/    /' "$1"
}

# item TEXT...: one of the list, its pieces with a space between them.
item() {
    printf -- '- %s\n' "$*"
}

# item_with FILE TEXT...: one with the settings of that file.
item_with() {
    item "${@:2}"
    printf '\n%s\n\n' "$(settings "$1")"
}

configuration() {
    printf '%s\n\n' "Configuration of each side. Every server is started anew for each run."
    item "Atoll: \`atoll serve --durability commit --shards 1\`; by default without \`--shards\`."
    ! needs 'h2o|wrk-h2o' || item "h2o alone:" \
        "$(dpkg-query -W -f='${Version}' libh2o-evloop-dev)," \
        "\`baseline-h2o --threads 1 --answer-bytes $answer_bytes\`, which is the length of" \
        "Atoll's answer; by default a thread per core."
    ! needs sendloop || item "loop of send(): \`sendloop --watchers 1000\`, one frame a send()."
    ! needs sendloop-frames || item "loop of send(), several frames:" \
        "\`sendloop --watchers 1000 --frames ${frames:-1}\` in the last round: what Atoll's" \
        "watchers have had in a read, the median so far."
    ! needs disk || item "the disk: \`disk --bytes $commit_bytes\`: write and fdatasync into" \
        "64 MiB of written zeros, one after the other."
    ! needs disk-direct || item "the disk, direct: \`disk --bytes $commit_bytes --direct\`: the" \
        "same past the page cache, whole blocks of 4 KiB, each written and synced by one call."
    ! needs redis || item_with "$rivals/redis.conf" \
        "Redis: $(redis-server --version | cut -d' ' -f3), one stream for each session, a content" \
        "in one field; by default \`redis-server\` without a file."
    ! needs nats || item_with "$rivals/nats.conf" \
        "NATS: $(nats-server --version), one JetStream stream of files for each session, on a" \
        "directory of synchronous files (chattr +S), as this version knows no" \
        "\`sync_interval: always\`; by default without that."
    ! needs nchan || item_with "$rivals/nchan.conf" \
        "nchan: $(nginx -v 2>&1 | cut -d' ' -f3-), nchan" \
        "$(dpkg-query -W -f='${Version}' libnginx-mod-nchan); by default \`worker_processes auto\`."
    ! needs sse || item "Node: $(node --version), better-sse" \
        "$(node -p "require('$rivals/package.json').dependencies['better-sse']"), \`node sse.mjs\`."
    ! grep -q wrk <<<"$plan" || item "wrk: \`wrk -t1 -c256\`, after a second that is not measured."
}

# ---- all of it

# others_ticks: what the machine has worked, or would have if the hypervisor had let it, for others
# than this script and what it has started, once that has ended.
others_ticks() {
    local all own
    all=$(awk '/^cpu / { print $2 + $3 + $4 + $7 + $8 + $9 }' /proc/stat)
    own=$(sed 's/.*) //' "/proc/$$/stat" | awk '{ print $12 + $13 + $14 + $15 }')
    echo $((all - own))
}

# measure GROUP SIDE: in this round.
measure() {
    local ticks began
    group=$1 side=$2 file=$found/$1.$2.$round.json
    note "  round $round of $rounds: $group, $side"
    rm -rf "$data"
    mkdir "$data"
    sync -f "$tmp"
    ticks=$(others_ticks) began=$EPOCHREALTIME
    start "$side"
    "load_$group"
    stop
    keep others "$(calc "($(others_ticks) - $ticks) * 100 / $(getconf CLK_TCK) / \
        ($EPOCHREALTIME - $began)")"
}

! needs 'h2o|wrk-h2o' || learn_answer_bytes
mapfile -t groups <<<"$plan"
for line in "${groups[@]}"; do
    read -ra sides <<<"$line"
    for ((round = 1; round <= rounds; round++)); do
        order=("${sides[@]:1}")
        ((round % 2)) || mapfile -t order < <(printf '%s\n' "${order[@]}" | tac)
        for side in "${order[@]}"; do
            measure "${sides[0]}" "$side"
        done
    done
done

others=$(printf '%.0f' "$(median others)")
printf '%s; medians of %s rounds of %s s; %s\n' "$(machine)" "$rounds" "$seconds" \
    "server and rival on core 0, load on core $last_core; others took $others % of a core" \
    >"$found/machine"
((others < 15)) || printf '\n%s\n' \
    "**The machine was busy with something else: no goal can be judged by this.**" \
    >>"$found/machine"
configuration >"$found/configuration"
status=0
"${compare[@]}" report "$found" "${rows[@]}" --json "$json" --html "$html" || status=$?
note "Rounds: $json; with charts: $html"
exit "$status"
