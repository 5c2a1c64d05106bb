#compdef crashdmesg
# zsh completion for crashdmesg. The options come from the program itself, so that they cannot grow old.
local -a options
options=(${(f)"$({ crashdmesg --help; crashdmesg --help-config | sed -n 's/^[* ] \([a-z-]*\) .*/--\1/p'; } |
    grep -oE -- '(^|[ ,])--[a-z-]+' | tr -d ' ,' | sort -u)"})
if [[ $PREFIX == -* ]]; then
    compadd -- $options
else
    _files
fi
