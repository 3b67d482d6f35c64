# fish completion for molt(1). molt itself says which words there are (--completion-words).

function __molt_complete
    set -l words (commandline -opc)
    set -l lines ($words[1] --completion-words 2>/dev/null)
    set -l context molt
    # The verb, and what belongs to it.
    for word in $words[2..-1]
        if not string match -qr '^[a-z]' -- $word; or not string match -q -- "$context|$word" (string replace -r '^([^|]*\|[^|]*)\|.*' '$1' -- $lines)
            break
        end
        set context "$context $word"
    end
    # What follows an option stands alone.
    if set -q words[2]; and string match -q -- "$context $words[-1]|*" $lines
        set context "$context $words[-1]"
    end
    for line in (string match -- "$context|*" $lines)
        set -l parts (string split '|' -- $line)
        switch $parts[2]
            case FILE PATH FROM TO
                __fish_complete_path (commandline -ct)
            case GUEST
                $words[1] list --timeout 1 2>/dev/null | string replace -r ' .*' '' | tail -n +2
            case DEVICE
                set -q MOLT_SYSFS; or set -l MOLT_SYSFS /sys
                for device in $MOLT_SYSFS/bus/pci/drivers/vfio-pci/*:*
                    string replace -r '.*/' '' -- $device
                end
            case '*'
                string match -qr '^[A-Z]' -- $parts[2]; or string join \t -- $parts[2..]
        end
    end
end

complete -c molt -f -a '(__molt_complete)'
