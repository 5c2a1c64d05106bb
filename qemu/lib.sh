# shellcheck shell=sh
# Shared by the scripts beside it: what they need from the distribution, the kernel, and QEMU's gdb stub. Sourced, never run.

ME=${ME:-${0##*/}}
top=$(dirname "$(readlink -f "$0")")/..
top=$(readlink -f "$top")
# In the project the image's scripts are in initramfs; installed, one directory up.
scripts=$top/initramfs; [ -d "$scripts" ] || scripts=$top
cache=${CRASHDMESG_CACHE:-$top/target/qemu}
began=$(date +%s)

# step TEXT: a line of progress, with the seconds since the start.
step() { printf '[%3d s] %s\n' "$(($(date +%s) - began))" "$*" >&2; }
die() { printf '%s: %s\n' "$ME" "$*" >&2; exit 1; }

# as_root COMMAND...: as it is for root, through sudo for others.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null; then sudo "$@"
    else die "needs root for: $* (no sudo here)"; fi
}

# want PROGRAM PACKAGE [PROGRAM PACKAGE]...: installs the packages of the programs that are missing.
want() {
    packages=
    while [ $# -gt 1 ]; do
        command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || [ -x "/sbin/$1" ] || packages="$packages $2"
        shift 2
    done
    [ -n "$packages" ] || return 0
    command -v apt-get >/dev/null || die "please install:$packages"
    step "installing:$packages"
    # shellcheck disable=SC2086
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >"$cache/apt.log" 2>&1 ||
        { as_root apt-get update -qq >>"$cache/apt.log" 2>&1 &&
            as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >>"$cache/apt.log" 2>&1; } ||
        { tail -n 5 "$cache/apt.log" >&2; die "could not install:$packages"; }
}

# want_cargo: a toolchain that knows this crate's edition. Debian's own may be too old; rustup's is then used.
want_cargo() {
    [ ! -d "$HOME/.cargo/bin" ] || PATH=$HOME/.cargo/bin:$PATH
    least=$(sed -n 's/^rust-version = "1\.\([0-9]*\).*/\1/p' "$top/Cargo.toml")
    minor=$(cargo --version 2>/dev/null | sed -n 's/^cargo 1\.\([0-9]*\).*/\1/p')
    [ "${minor:-0}" -lt "${least:-0}" ] || { want cc gcc; return 0; }
    want cc gcc curl curl
    step "installing a Rust toolchain with rustup (cargo here: ${minor:+1.}${minor:-none}, needed: 1.$least)"
    if apt-cache show rustup >/dev/null 2>&1 && ! command -v rustup >/dev/null; then want rustup rustup; fi
    if command -v rustup >/dev/null; then
        rustup default stable >"$cache/rustup.log" 2>&1
    else
        curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal >"$cache/rustup.log" 2>&1
    fi || { tail -n 5 "$cache/rustup.log" >&2; die "could not install a Rust toolchain; see https://rustup.rs"; }
    PATH=$HOME/.cargo/bin:$PATH
}

# free_port: one that nothing listens on now
free_port() {
    timeout 1 socat -d -d -u TCP-LISTEN:0,bind=127.0.0.1 /dev/null 2>&1 | sed -n 's/.*listening on .*:\([0-9]*\)$/\1/p' | head -n 1
}

# --- the kernel ----------------------------------------------------------------------------------------------------------

# kernel_package NAME: the real package behind a metapackage such as linux-image-cloud-amd64.
kernel_package() {
    depends=$(apt-cache depends --no-recommends --no-suggests "$1" 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[0-9][^ ]*\).*/\1/p' | head -n 1)
    printf '%s\n' "${depends:-$1}"
}

# bzimage_version FILE: the release in its own header (Documentation/arch/x86/boot.rst, kernel_version at 0x20e).
bzimage_version() {
    at=$(od -An -tu2 -j526 -N2 "$1" | tr -d ' ')
    dd if="$1" bs=1 skip=$((at + 512)) count=128 2>/dev/null | tr '\000' '\n' | sed -n '1s/ .*//p'
}

# kernel_fetch WHAT: sets KERNEL (the image), KVERSION, KROOT (the tree with its lib/modules). WHAT is an unpacked package's
# directory, a kernel image, a .deb, or the name of a package, which is downloaded once and kept.
kernel_fetch() {
    case $1 in
    *.deb) deb=$1 ;;
    */* | .)
        if [ -d "$1" ]; then KROOT=$(readlink -f "$1"); else KERNEL=$(readlink -f "$1"); fi
        [ -e "$1" ] || die "no such kernel: $1"
        deb= ;;
    *)
        want dpkg-deb dpkg
        package=$(kernel_package "$1")
        mkdir -p "$cache/kernels"
        deb=$(find "$cache/kernels" -name "${package}_*.deb" | sort | tail -n 1)
        if [ -z "$deb" ]; then
            step "downloading $package"
            (cd "$cache/kernels" && apt-get download -q "$package") >"$cache/apt.log" 2>&1 ||
                { as_root apt-get update -qq >>"$cache/apt.log" 2>&1; package=$(kernel_package "$1")
                  (cd "$cache/kernels" && apt-get download -q "$package") >>"$cache/apt.log" 2>&1; } ||
                { tail -n 3 "$cache/apt.log" >&2; die "cannot download $package"; }
            deb=$(find "$cache/kernels" -name "${package}_*.deb" | sort | tail -n 1)
            [ -n "$deb" ] || die "apt-get download $package left no package"
        fi ;;
    esac
    if [ -n "$deb" ]; then
        mkdir -p "$cache/kernels"
        [ -r "$deb" ] || die "cannot read $deb"
        KROOT=$cache/kernels/$(basename "$deb" .deb)
        [ -d "$KROOT/boot" ] || [ -d "$KROOT/usr/lib/modules" ] ||
            { rm -rf "$KROOT.new"; dpkg-deb -x "$deb" "$KROOT.new" && mv "$KROOT.new" "$KROOT"; } || die "cannot unpack $deb"
    fi
    if [ -z "${KERNEL-}" ]; then
        KERNEL=$(find "$KROOT/boot" "$KROOT/lib/modules" "$KROOT/usr/lib/modules" -maxdepth 2 -name 'vmlinuz*' 2>/dev/null | sort | head -n 1)
        [ -n "$KERNEL" ] || die "no vmlinuz in $KROOT"
    fi
    KVERSION=$(bzimage_version "$KERNEL")
    [ -n "$KVERSION" ] || die "$KERNEL is not an x86 bzImage"
    : "${KROOT:=/}"
    [ -d "$KROOT/lib/modules/$KVERSION" ] || [ -d "$KROOT/usr/lib/modules/$KVERSION" ] || die "no modules of $KVERSION under $KROOT"
}

# --- QEMU's gdb stub -------------------------------------------------------------------------------------------------------
#
# Distribution kernels have no crash-test module. But the machine is ours: its memory can be written from outside. The
# guest names a physical address and the bytes of a few instructions; we put them there, and the next call dies of them.

# gdb_packet TEXT: $TEXT#checksum
gdb_packet() {
    sum=0
    for byte in $(printf '%s' "$1" | od -An -v -tu1); do sum=$(((sum + byte) & 255)); done
    printf '$%s#%02x' "$1" "$sum"
}

# poke SOCKET PHYSICAL-ADDRESS HEX-BYTES
poke() {
    { gdb_packet "?"; sleep 0.3; gdb_packet Qqemu.PhyMemMode:1; sleep 0.3
      gdb_packet "M$2,$(printf '%x' $((${#3} / 2))):$3"; sleep 0.3; printf '+'; gdb_packet D; sleep 0.3; } |
        timeout 10 socat - "UNIX-CONNECT:$1" | tr -d '+' | grep -qa 'OK'
}
