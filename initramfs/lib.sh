# shellcheck shell=sh
# Shared by the scripts beside it: messages, kernel modules, and the newc archive. Sourced, never run.
#
# Needs a POSIX shell and what every distribution has (awk, sed, find, od, tr); gzip, xz or zstd only where a module is
# compressed that way. Runs without root: nothing is mounted, no device node is made.

LC_ALL=C
export LC_ALL

ME=${ME:-${0##*/}}
say() { printf '%s\n' "$*" >&2; }
warn() { printf '%s: %s\n' "$ME" "$*" >&2; }
die() { warn "$*"; exit 1; }

# first_of PATH...: the first of these that exists.
first_of() {
    for candidate; do [ -e "$candidate" ] && { printf '%s\n' "$candidate"; return 0; }; done
    return 1
}

# need_tool TOOL PACKAGE WHY
need_tool() { command -v "$1" >/dev/null 2>&1 || die "$3 needs $1; install it (Debian: apt install $2)"; }

# --- kernel modules ---------------------------------------------------------------------------------------------------
#
# A module says itself what it needs: .modinfo holds NUL-terminated "depends=a,b", "softdep=pre: c", "firmware=x.bin".
# Reading that (depmod reads the same) works for any tree, indexed or not, of this machine or another one.

# modules_index DIR FILE: writes "name path" for each module under DIR (lib/modules/VERSION), names with '_'.
# Where depmod has chosen between two modules of one name (updates before kernel), its choice is taken.
modules_index() {
    {
        [ ! -f "$1/modules.dep" ] || sed -n 's|^\([^:]*\.ko[^:]*\):.*|\1|p' "$1/modules.dep"
        (cd "$1" && { find updates extra -name '*.ko*' 2>/dev/null | sort; find . -name '*.ko*' | sed 's|^\./||' | sort; })
    } | awk '{ n = $0; sub(/.*\//, "", n); sub(/\.ko(\.(gz|xz|zst))?$/, "", n); gsub(/-/, "_", n)
               if (!(n in seen)) { seen[n] = 1; print n, $0 } }' >"$2"
}

# unpack FILE >PLAIN: a module or firmware file as it is before compression, chosen by its name.
unpack() {
    case $1 in
    *.gz) gzip -dc "$1" ;;
    *.xz)
        if command -v xz >/dev/null; then xz -dc "$1"
        elif command -v busybox >/dev/null; then busybox xzcat "$1"
        else need_tool xz xz-utils "${1##*/}"; fi ;;
    *.zst) need_tool zstd zstd "${1##*/}"; zstd -dcq "$1" ;;
    *) cat "$1" ;;
    esac
}

# modinfo_field FILE KEY: the values of KEY in an unpacked module's .modinfo, one a line.
modinfo_field() { tr '\000' '\n' <"$1" | sed -n "s|^$2=\([-A-Za-z0-9_.,:/ ]*\)\$|\1|p"; }

# module_add NAME: unpacks NAME and, first, what it needs into $STAGE/lib/modules, and appends to $ORDER in load order.
# Uses $INDEX (modules_index), $TREE (lib/modules/VERSION), $BUILTIN; remembers in $SEEN. Status 1: no such module.
module_add() {
    name=$(printf '%s' "$1" | tr - _)
    case " $SEEN " in *" $name "*) return 0 ;; esac
    path=$(awk -v n="$name" '$1 == n {print $2; exit}' "$INDEX")
    if [ -z "$path" ]; then
        case " $BUILTIN " in *" $name "*) return 0 ;; esac
        # Not a module's name, then perhaps an algorithm's: the kernel would call modprobe for it, which the image has not.
        providers=$(module_providers "$name") || return 1
        for need in $providers; do module_add "$need"; done
        return 0
    fi
    SEEN="$SEEN $name"
    plain=$STAGE/lib/modules/$name.ko
    mkdir -p "$STAGE/lib/modules"
    unpack "$TREE/$path" >"$plain" && [ -s "$plain" ] || die "cannot unpack $TREE/$path"
    # A shell function has no locals here: what is needed after the recursion is kept on the argument list.
    set -- "$name" "$plain" "$(modinfo_field "$plain" softdep | sed -n 's/.*post: *//p' | sed 's/pre:.*//')"
    for need in $(modinfo_field "$plain" depends | tr , ' ') \
        $(modinfo_field "$plain" softdep | sed -n 's/.*pre: *//p' | sed 's/post:.*//'); do
        module_add "$need" || warn "module $1 asks for $need, which this kernel does not have"
    done
    printf '%s\n' "$1" >>"$ORDER"
    for need in $3; do module_add "$need" || :; done
}

# module_providers ALIAS: the modules that say so of themselves; none when the kernel has it built in. Status 1: nobody does.
module_providers() {
    # depmod's list where there is one; otherwise those that are called like it (crc32c: crc32c_generic, crc32c_intel).
    found=$(sed -n "s/^alias \(crypto-\)\{0,1\}$1 //p" "$TREE/modules.alias" 2>/dev/null | sort -u)
    [ -n "$found" ] || for like in $(awk -v n="$1" 'index($1, n "_") == 1 {print $2}' "$INDEX"); do
        unpack "$TREE/$like" >"$STAGE/alias"
        ! modinfo_field "$STAGE/alias" alias | grep -qx "$1" || found="$found $(awk -v p="$like" '$2 == p {print $1}' "$INDEX")"
        rm -f "$STAGE/alias"
    done
    # shellcheck disable=SC2086
    [ -z "$found" ] || { printf '%s\n' $found | sort; return 0; }
    [ -f "$TREE/modules.builtin.modinfo" ] && tr '\000' '\n' <"$TREE/modules.builtin.modinfo" | grep -qE "\.alias=(crypto-)?$1\$"
}

# builtin_modules DIR: the names of what is built into the kernel of that tree.
builtin_modules() {
    [ ! -f "$1/modules.builtin" ] || sed 's|.*/||; s|\.ko$||; s|-|_|g' "$1/modules.builtin" | tr '\n' ' '
}

# module_options NAME ROOT: what modprobe.d sets for it.
module_options() {
    cat "$2"/etc/modprobe.d/*.conf "$2"/usr/lib/modprobe.d/*.conf "$2"/lib/modprobe.d/*.conf 2>/dev/null |
        awk -v n="$1" '$1 == "options" { m = $2; gsub(/-/, "_", m); if (m == n) { $1 = ""; $2 = ""; sub(/^ +/, ""); printf "%s ", $0 } }' |
        sed 's/ *$//'
}

# --- the archive --------------------------------------------------------------------------------------------------------
#
#   070701 ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check   8 hex digits each
#   name, NUL, padded to 4; data, padded to 4                                  (Documentation/driver-api/early-userspace)
#
# Written here rather than by cpio(1): no root is needed for device nodes, and the same tree gives the same bytes.

# newc_pad LEN: zeros up to the next multiple of 4.
newc_pad() {
    case $(($1 % 4)) in 1) printf '\000\000\000' ;; 2) printf '\000\000' ;; 3) printf '\000' ;; esac
}

# newc_entry NAME OCTAL-MODE SIZE RMAJOR RMINOR: header and name; the data follows.
newc_entry() {
    newc_ino=$((newc_ino + 1))
    printf '070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\000' \
        "$newc_ino" "0$2" 0 0 1 0 "$3" 0 0 "$4" "$5" $((${#1} + 1)) 0 "$1"
    newc_pad $((110 + ${#1} + 1))
}

# newc_archive DIR: DIR as an archive on stdout: sorted, owned by root, dated 1970. Modes are normalised: directories and
# programs 0755, files 0644, and 0600 in etc, where secrets may be.
newc_archive() {
    newc_ino=0
    (cd "$1" && find . ! -name . | sed 's|^\./||' | sort) | while IFS= read -r entry; do
        file=$1/$entry
        if [ -h "$file" ]; then
            link=$(readlink "$file")
            newc_entry "$entry" 120777 ${#link} 0 0; printf '%s' "$link"; newc_pad ${#link}
        elif [ -d "$file" ]; then
            newc_entry "$entry" 40755 0 0 0
            # The kernel opens /dev/console for init before anything is mounted.
            if [ "$entry" = dev ]; then newc_entry dev/console 20600 0 5 1; newc_entry dev/null 20666 0 1 3; fi
        else
            size=$(wc -c <"$file"); mode=100644
            case $entry in etc/*) mode=100600 ;; *) [ ! -x "$file" ] || mode=100755 ;; esac
            newc_entry "$entry" "$mode" "$((size))" 0 0; cat "$file"; newc_pad "$((size))"
        fi
    done
    newc_entry 'TRAILER!!!' 0 0 0 0
}

# kernel_config VERSION ROOT: the path of that kernel's configuration.
kernel_config() { first_of "$2/boot/config-$1" "$2/lib/modules/$1/config" "$2/usr/lib/modules/$1/config"; }

# compressor VERSION ROOT: the best of what that kernel can unpack and this machine can pack: zstd, else gzip.
compressor() {
    if config=$(kernel_config "$1" "$2") && grep -q '^CONFIG_RD_ZSTD=y' "$config" && command -v zstd >/dev/null; then
        echo zstd
    else
        echo gzip
    fi
}

# pack METHOD <IN >OUT, with nothing of the time or the machine in it. The kernel's xz decoder knows crc32 alone. Windows
# are small: the kernel allocates one before there is any room to spare, and the usual 8 MiB of zstd -19 (xz -9: 64 MiB)
# is what an 80 MiB capture kernel dies of.
pack() {
    case $1 in
    none) cat ;;
    gzip) gzip -9nc ;;
    zstd) need_tool zstd zstd "zstd compression"; zstd -19 --zstd=wlog=17 -qc --single-thread ;;
    xz) need_tool xz xz-utils "xz compression"; xz --lzma2=preset=9e,dict=512KiB -T1 --check=crc32 -c ;;
    esac
}
