# shellcheck shell=bash
# Sourced by the scripts of this folder, which set `tmp`: samples and their medians, rows of a table.
# shellcheck disable=SC2015,SC2034,SC2059,SC2154

fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

note() {
    printf '%s\n' "$*" >&2
}

# read_options "PART..." OPTION...: what scripts take that measure in parts: rounds, seconds (the caller
# has set a default), scale, dir, build, must_build, atoll_options, parts.
read_options() {
    local all_parts=$1
    shift
    rounds=5 scale=1 build=$root/build dir="" parts=() must_build=yes atoll_options=()
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
                echo "usage: loadtest/${0##*/} [--rounds N] [--seconds N] [--scale F] [--dir DIR]" \
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
}

# need_machine FILES: two cores, and as many open files.
need_machine() {
    (($(nproc) >= 2)) || fail "needs two cores, one for the server and one for the load"
    (($(ulimit -Hn) >= $1)) || fail "a process may open only $(ulimit -Hn) files, not $1"
    ulimit -n "$(ulimit -Hn)"
}

# build_programs TARGET...: in the tree `build`; after --no-build its programs are taken as they are.
build_programs() {
    local target
    [[ -n $must_build ]] || return 0
    note "Building"
    for target in "$@"; do
        build_tree "$build" "$target" -DCMAKE_BUILD_TYPE=Release -DATOLL_LOADTEST=ON
    done
}

calc() {
    awk "BEGIN { printf \"%.3f\", $1 }"
}

# scaled N [LEAST]: N times the `scale` that the caller has set.
scaled() {
    awk "BEGIN { n = int($1 * $scale + 0.5); print n < ${2:-1} ? ${2:-1} : n }"
}

# need_space GB: fails where there is less of it at `tmp`.
need_space() {
    (($(df --output=avail -k "$tmp" | tail -n 1) >= $(printf '%.0f' "${1}e6"))) ||
        fail "$tmp: less than $1 GB of space; --dir names another place"
}

# keep KEY VALUE, median KEY
keep() {
    printf '%s\n' "$2" >>"$tmp/$1.samples"
}

median() {
    sort -g "$tmp/$1.samples" | awk '{ v[NR] = $1 }
        END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

# machine: the commit and what it is measured on, for the line above a table.
machine() {
    printf '%s' "Commit $(git -C "$root" describe --always --dirty 2>/dev/null || echo unknown)," \
        " Linux $(uname -r), $(nproc) cores ($(sed -n 's/^model name.*: //p;T;q' /proc/cpuinfo))," \
        " $(stat -f -c %T "$tmp")"
}

# The caller may choose other widths.
missed=0 line='| %-42s | %9s | %9s | %6s | %-9s | %-3s |\n'

# row WHAT ATOLL YARDSTICK GOAL: GOAL is a comparison of the ratio, or, without yardstick, of ATOLL.
row() {
    local what=$1 atoll=$2 yardstick=$3 goal=$4 ratio="" value=$2 met=""
    [[ -z $yardstick ]] || value=$(calc "$atoll / $yardstick") ratio=$value
    if [[ -n $goal ]]; then
        met=$(awk "BEGIN { print ($value $goal) ? \"yes\" : \"NO\" }")
        [[ $met == yes ]] || missed=3
    fi
    printf "$line" "$what" "$atoll" "$yardstick" "$ratio" "$goal" "$met"
}

# free_port: one that nobody listens on now.
free_port() {
    local port
    while port=$((20000 + RANDOM % 8000)); do
        { : >"/dev/tcp/127.0.0.1/$port"; } 2>/dev/null || break
    done
    printf '%s\n' "$port"
}
