#!/usr/bin/env bash
# Plants each bug in turn and counts the seeds until one fails: tests/sim/bugs.sh ATOLL_SIM [FIRST...]
# Prints a table row a bug: its name, what it does, the checks that failed, the seeds needed from each
# FIRST on and their median. Exit status 1 where one needs more than 1 000 seeds.
set -uo pipefail
sim=${1:?usage: tests/sim/bugs.sh ATOLL_SIM [FIRST...]}
shift
firsts=("$@")
((${#firsts[@]})) || firsts=(100000 200000 300000 400000 500000)
status=0
while read -r name what; do
    seeds=() checks=()
    for first in "${firsts[@]}"; do
        said=$("$sim" --bug "$name" --seeds "$first:1000" -f 1 -j 1 2>/dev/null | tr -d '\000')
        needed=$(grep -oE '^[0-9]+ seeds in' <<<"$said" | cut -d' ' -f1)
        check=$(grep -oE '^(VIOLATED [a-z]+|ENDED by signal [0-9]+)' <<<"$said" | head -n 1)
        [[ -n $check ]] || needed=never status=1
        seeds+=("${needed:-?}")
        checks+=("${check#VIOLATED }")
    done
    sorted=$(printf '%s\n' "${seeds[@]}" | sort -n)
    median=$(sed -n "$(((${#seeds[@]} + 1) / 2))p" <<<"$sorted")
    caught=$(printf '%s\n' "${checks[@]}" | sort -u | paste -sd, | sed 's/,/, /g')
    printf '| %s | %s | %s | %s | %s |\n' "$name" "$what" "$caught" "${seeds[*]}" "$median"
done < <("$sim" --bugs)
exit $status
