#compdef flexlom
# zsh completion of flexlom. It knows nothing itself: flexlom-tool reads its own help.
_flexlom() {
  local line
  local -a candidates
  for line in "${(@f)$("${words[1]}" internal-complete "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
    case $line in
      '') ;;
      :files) _files ;;
      ':command '*)
        shift ${line#:command } words
        (( CURRENT -= ${line#:command } ))
        _normal
        return
        ;;
      *) candidates+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}") ;;
    esac
  done
  (( $#candidates )) && _describe flexlom candidates
}
_flexlom "$@"
