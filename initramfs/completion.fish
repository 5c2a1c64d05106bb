# fish completion for crashdmesg. The options come from the program itself, so that they cannot grow old.
complete -c crashdmesg -a "(begin; crashdmesg --help; crashdmesg --help-config | string replace -rf '^[* ] ([a-z-]+) .*' -- '--\$1'; end | string match -rag -- '(?:^|[ ,])(--[a-z-]+)' | sort -u)" -n "string match -q -- '-*' (commandline -ct)"
