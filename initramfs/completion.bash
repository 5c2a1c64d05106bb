# bash completion for crashdmesg. The options come from the program itself, so that they cannot grow old.
_crashdmesg() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
    case $prev in
    -l | --level) COMPREPLY=($(compgen -W 'emerg alert crit err warn notice info debug' -- "$cur")); return ;;
    --time-format) COMPREPLY=($(compgen -W 'ctime iso delta reltime notime raw' -- "$cur")); return ;;
    --final) COMPREPLY=($(compgen -W 'reboot poweroff halt shell continue' -- "$cur")); return ;;
    --system-map) COMPREPLY=($(compgen -f -- "$cur")); return ;;
    --report) COMPREPLY=($(compgen -W 'full log summary' -- "$cur")); return ;;
    esac
    if [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$({ crashdmesg --help; crashdmesg --help-config | sed -n 's/^[* ] \([a-z-]*\) .*/--\1/p'; } |
            grep -oE -- '(^|[ ,])--[a-z-]+' | tr -d ' ,' | sort -u)" -- "$cur"))
    else
        COMPREPLY=($(compgen -f -- "$cur"))
    fi
}
complete -o filenames -F _crashdmesg crashdmesg
