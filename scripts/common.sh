# shellcheck shell=bash
# shellcheck disable=SC2034 # variables are for those who source this
# What ./up, ./down and ./test share. Sourced after `set -euo pipefail`.

SOURCE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export CUBICLE_HOME=${CUBICLE_HOME:-/var/lib/cubicle}
export CUBICLE_LISTEN=${CUBICLE_LISTEN:-127.0.0.1:8000}
# With the default CUBICLE_HOME the command is put on everybody's PATH.
COMMAND_LINK=/usr/local/bin/cubicle

die() { # MESSAGE HINT [CODE]
    printf 'error: %s\nhint: %s\n' "$1" "$2" >&2
    exit "${3:-5}"
}

need_root() { # PROGRAM
    [ "$(id -u)" -eq 0 ] || die "$1 needs root: it makes namespaces, cgroups and mounts" "run it as root, for example with sudo" 2
}

check_home() {
    case $CUBICLE_HOME in
    / | *//* | */. | */.. | */./* | */../*) die "CUBICLE_HOME=$CUBICLE_HOME is not a plain path" "set it to a folder of its own" 2 ;;
    /*/*) CUBICLE_HOME=${CUBICLE_HOME%/} ;;
    *) die "CUBICLE_HOME=$CUBICLE_HOME is not an absolute path below a top folder" "set it to a folder of its own, for example /var/lib/cubicle" 2 ;;
    esac
}

# Whether a folder was made by ./up or `cubicle serve`: only such a one is ever emptied.
is_cubicle_home() { # DIRECTORY
    [ -e "$1/up.lock" ] || [ -e "$1/bin/cubicle" ] || [ -e "$1/engine/engine.db" ]
}

# Packages of apt that are missing on this machine are installed; nothing is asked when none is.
install_missing() { # PACKAGE...
    local package missing=()
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    echo "installing ${missing[*]}" >&2
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } \
        >/dev/null </dev/null || die "apt could not install ${missing[*]}" "see what \`apt-get install ${missing[*]}\` says"
}

# Packages of apt, unpacked into a folder and not installed: a server that is installed would be started.
unpack_packages() { # FOLDER PACKAGE...
    local folder=$1
    shift
    [ ! -e "$folder/complete" ] || return 0
    rm -rf "$folder"
    mkdir -p "$folder/deb"
    (cd "$folder/deb" && { apt-get download -qq -o APT::Sandbox::User=root "$@" 2>/dev/null ||
        { apt-get update -qq && apt-get download -qq -o APT::Sandbox::User=root "$@"; }; }) >&2 ||
        die "apt could not fetch $*" "see its message above"
    for package in "$folder"/deb/*.deb; do dpkg-deb --extract "$package" "$folder"; done
    rm -r "$folder/deb"
    touch "$folder/complete"
}

# The modules that a folder's package-lock.json names; nothing is asked when they are there.
install_modules() { # FOLDER
    command -v npm >/dev/null || install_missing nodejs npm
    [ ! "$1/node_modules/.package-lock.json" -nt "$1/package-lock.json" ] || return 0
    (cd "$1" && PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm ci --no-audit --no-fund)
}

# Debian 12's Node is too old for Playwright; npm has newer ones.
find_node() {
    NODE=(node)
    if [ "$(node --version | tr -d v | cut -d. -f1)" -lt 20 ]; then NODE=(npm exec --yes --package=node@22 -- node); fi
}

find_cargo() {
    command -v cargo >/dev/null || PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
    command -v cargo >/dev/null || die "there is no Rust toolchain: cargo was not found" "install Rust $(rust_version) or newer"
}

rust_version() { sed -n 's/^rust-version = "\(.*\)"/\1/p' "$SOURCE/Cargo.toml"; }

# Where cargo puts what it builds; CARGO_TARGET_DIR and cargo's configuration count.
target_directory() {
    (cd "$SOURCE" && cargo metadata --locked --no-deps --format-version 1) | grep -oP '"target_directory":"\K[^"]+'
}

# Builds the two programs of the product and sets CUBICLE_BUILT and PROBE_BUILT to their paths.
build_product() {
    local target host
    find_cargo
    host=$(rustc -vV | sed -n 's/^host: //p')
    target=$(target_directory) || die "cargo cannot read this workspace" "see its message above"
    (cd "$SOURCE" && cargo build --release --locked --quiet -p cubicle) || die "cubicle does not build" "see cargo's message above"
    # Static: the probe runs in workspaces, whose images may have another C library or none.
    (cd "$SOURCE" && RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static" \
        cargo build --release --locked --quiet -p cubicle-probe --target "$host") ||
        die "cubicle-probe does not build" "see cargo's message above"
    CUBICLE_BUILT=$target/release/cubicle
    PROBE_BUILT=$target/$host/release/cubicle-probe
    if readelf --wide --program-headers "$PROBE_BUILT" | grep -q INTERP; then
        die "$PROBE_BUILT is not static" "look for linker flags in RUSTFLAGS and cargo's configuration"
    fi
}

# Whether a process runs; one that has ended and waits for its parent has no program any more.
is_alive() { # PID
    readlink "/proc/$1/exe" >/dev/null 2>&1
}

# Pids of the product's own processes of this CUBICLE_HOME: serve, hub, egress proxies, helpers.
# A program that was replaced while it ran shows as deleted.
our_pids() {
    local link program
    for link in /proc/[0-9]*/exe; do
        program=$(readlink "$link" 2>/dev/null) || continue
        case ${program% (deleted)} in
        "$CUBICLE_HOME/bin/cubicle" | "$CUBICLE_HOME/bin/cubicle-probe")
            link=${link#/proc/}
            echo "${link%/exe}"
            ;;
        esac
    done
}

# The pid of `cubicle serve` of this CUBICLE_HOME, when it runs.
serve_pid() {
    local pid
    for pid in $(our_pids); do
        if tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | sed -n 2p | grep -qx serve; then
            echo "$pid"
            return 0
        fi
    done
    return 1
}
