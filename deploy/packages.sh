# shellcheck shell=bash
# Sourced by deploy/run.sh, tests/run.sh and the scripts of loadtest/: Debian packages and build trees.
# Nothing here prints a word or asks for a right unless something is really missing.

# What Atoll is built from.
# shellcheck disable=SC2034
atoll_packages=(build-essential cmake ninja-build pkg-config libh2o-evloop-dev liburing-dev
    libjemalloc-dev libsimdjson-dev libcyaml-dev libyaml-dev libxxhash-dev libbsd-dev libssl-dev
    libcurl4-openssl-dev libjwt-dev zlib1g-dev)
# Node makes the dashboard; it may have come another way than by a package.
command -v node >/dev/null || atoll_packages+=(nodejs)
command -v npm >/dev/null || atoll_packages+=(npm)

# need_packages NAME...: installs those that are missing; fails, naming them, where it cannot.
need_packages() {
    local name as_root=() missing=()
    for name in "$@"; do
        [[ $(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null) == installed ]] ||
            missing+=("$name")
    done
    ((${#missing[@]})) || return 0
    if ((EUID != 0)); then
        command -v sudo >/dev/null || {
            echo "Missing: ${missing[*]}. Install them as root: apt-get install ${missing[*]}" >&2
            return 1
        }
        as_root=(sudo)
    fi
    echo "Installing ${missing[*]}" >&2
    "${as_root[@]}" apt-get update -qq &&
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# build_tree DIR TARGET -DNAME=VALUE...: makes TARGET in the build tree DIR; silent if that works.
# CMake is only asked to configure where the tree is new or differs in an option named here, so
# options that another script has switched on stay on. A tree of another user is refused.
build_tree() {
    local tree=$1 target=$2 option foreign ready=yes output generator=()
    shift 2
    foreign=$(find "$tree" ! -type l ! -writable -print -quit 2>/dev/null) || true
    if [[ -n $foreign ]]; then
        echo "$foreign belongs to $(stat -c %U "$foreign"); $(id -un) cannot write to it." \
            "Remove the tree (sudo rm -r $tree) or go on as its owner." >&2
        return 1
    fi
    [[ -f $tree/build.ninja || -f $tree/Makefile ]] || ready=
    [[ -f $tree/CMakeCache.txt ]] || generator=(-G Ninja)
    for option in "$@"; do
        option=${option#-D}
        grep -q "^${option%%=*}:[A-Z]*=${option#*=}\$" "$tree/CMakeCache.txt" 2>/dev/null || ready=
    done
    { [[ -n $ready ]] || output=$(cmake -S "$(dirname "${BASH_SOURCE[0]}")/.." -B "$tree" \
        "${generator[@]}" "$@" 2>&1); } &&
        output=$(cmake --build "$tree" --parallel "$(nproc)" --target "$target" 2>&1) && return 0
    printf '%s\n' "$output" >&2
    return 1
}
