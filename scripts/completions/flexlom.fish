# fish completion of flexlom. It knows nothing itself: flexlom-tool reads its own help.
function __flexlom_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l program $words[1]
    set -a words "$current"
    for line in ($program internal-complete $words[2..] 2>/dev/null)
        switch $line
            case :files
                __fish_complete_path "$current"
            case ':command *'
                set -l skip (string split ' ' $line)[2]
                if test $skip -lt (math (count $words) - 1)
                    complete -C (string join ' ' -- (string escape -- $words[(math $skip + 1)..-2]) "$current")
                else
                    __fish_complete_command
                end
            case '*'
                echo $line
        end
    end
end
complete -c flexlom -f -a '(__flexlom_complete)'
