# fish completion for crashdmesg and its commands. The options come from their --help, so that they cannot grow old.
function __crashdmesg_options
    set -l command (commandline -opc)[1]
    begin
        $command --help
        string match -q '*crashdmesg' $command; and $command --help-config | string replace -rf '^[* ] ([a-z-]+) .*' '  --$1'
    end 2>/dev/null | string replace -ra '\([^)]*' '' | string match -r '^ *-.*' | string match -rag -- '(--[a-z][a-z-]+)' | sort -u
end
for name in crashdmesg crashdmesg-arm crashdmesg-build crashdmesg-disarm crashdmesg-import crashdmesg-rehearse
    complete -c $name -n "string match -q -- '-*' (commandline -ct)" -a '(__crashdmesg_options)'
end
