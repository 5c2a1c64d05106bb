#compdef crashdmesg crashdmesg-arm crashdmesg-build crashdmesg-disarm crashdmesg-import crashdmesg-rehearse
# zsh completion for crashdmesg and its commands. The options come from their --help, so that they cannot grow old.
local -a options
if [[ $PREFIX == -* ]]; then
    options=(${(f)"$({ $words[1] --help; [[ $words[1] != *crashdmesg ]] || $words[1] --help-config | sed -n 's/^[* ] \([a-z-]*\) .*/  --\1/p'; } 2>/dev/null |
        sed -n 's/([^)]*//g; /^ *-/p' | grep -oE -- '--[a-z][a-z-]+' | sort -u)"})
    compadd -- $options
else
    _files
fi
