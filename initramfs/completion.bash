# bash completion for crashdmesg and its commands. The options come from their --help, so that they cannot grow old.
_crashdmesg() {
    local command=${COMP_WORDS[0]} cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} line
    case $prev in
    -l | --level) set -- emerg alert crit err warn notice info debug ;;
    --time-format) set -- ctime iso delta reltime notime raw ;;
    --final) set -- reboot poweroff halt shell continue ;;
    --report) set -- full log summary ;;
    --compress) set -- none gzip zstd xz ;;
    *) set -- ;;
    esac
    if [[ $# -eq 0 && $cur == -* ]]; then
        set -- $({ "$command" --help; [[ $command != *crashdmesg ]] || "$command" --help-config | sed -n 's/^[* ] \([a-z-]*\) .*/  --\1/p'; } 2>/dev/null |
            sed -n 's/([^)]*//g; /^ *-/p' | grep -oE -- '--[a-z][a-z-]+' | sort -u)
    fi
    COMPREPLY=()
    while IFS= read -r line; do COMPREPLY+=("$line"); done < <(
        if [[ $# -gt 0 ]]; then compgen -W "$*" -- "$cur"; else compgen -f -- "$cur"; fi)
}
complete -o filenames -F _crashdmesg crashdmesg crashdmesg-arm crashdmesg-build crashdmesg-disarm crashdmesg-import crashdmesg-rehearse
