# shellcheck shell=bash
# bash completion of flexlom. It knows nothing itself: flexlom-tool reads its own help.
_flexlom() {
  local line current=${COMP_WORDS[COMP_CWORD]}
  [[ $current == = ]] && current=
  COMPREPLY=()
  while IFS= read -r line; do
    case $line in
      :files)
        mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -f -- "$current")
        compopt -o filenames 2>/dev/null
        ;;
      :command\ *)
        if declare -F _comp_command_offset >/dev/null; then
          _comp_command_offset "${line#:command }"
        elif declare -F _command_offset >/dev/null; then
          _command_offset "${line#:command }"
        else
          mapfile -t COMPREPLY < <(compgen -c -f -- "$current")
        fi
        return
        ;;
      *) COMPREPLY+=("${line%%$'\t'*}") ;;
    esac
  done < <("${COMP_WORDS[0]}" internal-complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _flexlom flexlom
