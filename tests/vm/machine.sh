# shellcheck shell=bash
# An emulated machine with Debian's stock kernel and cgroup v2. Sourced after `set -euo pipefail`.
#
# It boots in seconds: kernel, a small initramfs, and a payload disk whose program `run` is the
# machine's whole work. There is no network device. It uses plain emulation, no /dev/kvm, so it
# works wherever qemu does.

VM_FOLDER=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
VM_CACHE=${CUBICLE_CACHE:-/var/cache/cubicle}/vm
# Set by start_machine.
MACHINE_PID=

# What the machine needs beyond what Debian's cloud kernel has built in. Loading one loads what it needs.
VM_MODULES="virtio_pci virtio_blk virtio-rng loop overlay"

vm_die() { # MESSAGE
    printf 'error: %s\n' "$1" >&2
    exit 1
}

# Sets VM_KERNEL and VM_INITRAMFS, made once per kernel package and per change of this folder.
prepare_machine() {
    local package version folder
    package=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
    if [ -z "$package" ]; then
        apt-get update -qq
        package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
    fi
    [ -n "$package" ] || vm_die "apt knows no kernel for linux-image-cloud-amd64: is this Debian on amd64?"
    version=${package#linux-image-}
    folder=$VM_CACHE/$version
    if [ ! -e "$folder/complete" ]; then
        rm -rf "$folder"
        mkdir -p "$folder/deb"
        # Only unpacked: a package that is installed would change how this machine boots.
        (cd "$folder/deb" && apt-get download -qq -o APT::Sandbox::User=root "$package")
        dpkg-deb --extract "$folder"/deb/*.deb "$folder"
        rm -r "$folder/deb"
        depmod -b "$folder" "$version"
        touch "$folder/complete"
    fi
    VM_KERNEL=$folder/boot/vmlinuz-$version
    VM_INITRAMFS=$folder/initramfs
    if [ "$VM_FOLDER/guest/init" -nt "$VM_INITRAMFS" ] || [ "$VM_FOLDER/machine.sh" -nt "$VM_INITRAMFS" ]; then
        make_initramfs "$folder" "$version" "$VM_INITRAMFS"
    fi
}

make_initramfs() { # FOLDER VERSION OUTPUT
    local work module path
    work=$(mktemp -d)
    mkdir -p "$work"/{bin,sbin,proc,sys,dev,tmp,run,mnt,payload,etc,var}
    cp /bin/busybox "$work/bin/busybox"
    cp "$VM_FOLDER/guest/init" "$work/init"
    chmod 0755 "$work/init"
    copy_program "$work" mkfs.ext4
    copy_program "$work" e2fsck
    ln -s ../proc/self/mounts "$work/etc/mtab"
    for module in $VM_MODULES; do
        # What it needs first, as modprobe lists it: "insmod PATH OPTIONS" each.
        modprobe -d "$1" -S "$2" --show-depends "$module" | while read -r kind path _; do
            [ "$kind" = insmod ] || continue
            path=${path#"$1"}
            mkdir -p "$work${path%/*}"
            cp "$1$path" "$work$path"
        done
    done
    cp "$1/lib/modules/$2"/modules.{order,builtin,builtin.modinfo} "$work/lib/modules/$2/"
    depmod -b "$work" "$2"
    echo "$VM_MODULES" >"$work/etc/modules"
    (cd "$work" && find . | busybox cpio -o -H newc 2>/dev/null | gzip -1) >"$3.new"
    mv "$3.new" "$3"
    rm -rf "$work"
}

# Copies a program of this machine with the libraries it needs, at the same places.
copy_program() { # ROOT NAME-OR-PATH [TARGET]
    local program library target=$1${3:-/sbin/${2##*/}}
    program=$(readlink -f "$(command -v "$2")") || vm_die "$2 is not installed"
    mkdir -p "${target%/*}"
    cp -L "$program" "$target"
    ldd "$program" 2>/dev/null | grep -oE '/[^ ]+' | while read -r library; do
        [ ! -e "$1$library" ] || continue
        mkdir -p "$1${library%/*}"
        cp -L "$library" "$1$library"
    done
}

# Makes a read-only disk of a folder, with some room for what file systems need.
make_disk() { # FOLDER DISK
    local size
    size=$(du -sk --apparent-size "$1" | cut -f 1)
    rm -f "$2"
    truncate -s "$((size + size / 4 + 16384))K" "$2"
    mkfs.ext4 -q -F -m 0 -E nodiscard -d "$1" "$2"
}

# Starts the machine and sets MACHINE_PID. In OUTPUT: `console`, what kernel and init say, and
# `results`, what `run` prints; the last line of that is "exit CODE".
start_machine() { # OUTPUT MEMORY-MIB PAYLOAD [DISK...]
    local output=$1 memory=$2 disk arguments=()
    shift 2
    mkdir -p "$output"
    : >"$output/console"
    : >"$output/results"
    local first=,readonly=on
    for disk in "$@"; do
        # Write-back: what the machine has not flushed is nowhere but in its memory or this process.
        arguments+=(-drive "file=$disk,if=virtio,format=raw,cache=writeback$first")
        first=
    done
    qemu-system-x86_64 -machine q35 -cpu max -accel tcg -smp 2 -m "$memory" -nodefaults -display none -no-reboot \
        -nic none -device virtio-rng-pci -serial "file:$output/console" -serial "file:$output/results" \
        -kernel "$VM_KERNEL" -initrd "$VM_INITRAMFS" \
        -append "console=ttyS0 quiet panic=-1 random.trust_cpu=on" "${arguments[@]}" </dev/null >"$output/qemu" 2>&1 &
    MACHINE_PID=$!
}

# Ends the machine as a power cut would, if it runs.
cut_power() {
    [ -n "$MACHINE_PID" ] || return 0
    kill -KILL "$MACHINE_PID" 2>/dev/null || true
    wait "$MACHINE_PID" 2>/dev/null || true
    MACHINE_PID=
}

# Waits until the machine has switched itself off; cuts its power after SECONDS. Gives the code
# that `run` ended with.
finish_machine() { # OUTPUT SECONDS
    local deadline=$((SECONDS + $2)) code
    while kill -0 "$MACHINE_PID" 2>/dev/null; do
        if [ "$SECONDS" -ge "$deadline" ]; then
            cut_power
            machine_log "$1"
            vm_die "the emulated machine did not end within $2 s"
        fi
        sleep 0.2
    done
    wait "$MACHINE_PID" 2>/dev/null || true
    MACHINE_PID=
    code=$(tr -d '\r' <"$1/results" | sed -n 's/^exit \([0-9]*\)$/\1/p' | tail -n 1)
    if [ -z "$code" ]; then
        machine_log "$1"
        vm_die "the emulated machine ended without a result"
    fi
    return "$code"
}

machine_log() { # OUTPUT
    local file
    for file in qemu console results; do
        echo "--- $file"
        tail -n 40 "$1/$file" | tr -d '\r'
    done >&2
}
