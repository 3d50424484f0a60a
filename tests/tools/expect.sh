# shellcheck shell=bash disable=SC2034
# What the shell tests share: `run CMD...` keeps status, output and errors; the expect_* functions
# judge them; finish prints the line that the test runner adds up. Sourced after `cd` to the root.
build=${BUILD:-build}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
passed=0 failed=0 skipped=0

run() {
  ran="$*"
  status=0
  "$@" >"$scratch/out" 2>"$scratch/err" || status=$?
  out=$(<"$scratch/out")
  err=$(<"$scratch/err")
}

good() { passed=$((passed + 1)); }

bad() {
  failed=$((failed + 1))
  printf 'FAILED: %s\n  after: %s\n  status %s\n  output: %s\n  errors: %s\n' "$1" "$ran" "$status" "$out" "$err"
}

skip() {
  skipped=$((skipped + 1))
  printf 'skipped: %s\n' "$1"
}

expect_status() { if [[ $status == "$1" ]]; then good; else bad "status should be $1"; fi; }
expect_out() { if [[ $out == "$1" ]]; then good; else bad "output should be: $1"; fi; }
expect_out_has() { if [[ $out == *"$1"* ]]; then good; else bad "output should have: $1"; fi; }
expect_no_out_has() { if [[ $out != *"$1"* ]]; then good; else bad "output should not have: $1"; fi; }
expect_err_has() { if [[ $err == *"$1"* ]]; then good; else bad "errors should have: $1"; fi; }
expect_no_err() { if [[ -z $err ]]; then good; else bad "there should be no errors"; fi; }
expect() { if "$@"; then good; else bad "should hold: $*"; fi; }

# Ends the test as skipped when what it needs was not built.
need() {
  local file
  for file in "$@"; do
    if [[ ! -e $file ]]; then
      echo "skipped: $file is not built"
      exit 77
    fi
  done
}

finish() {
  echo "$passed passed, $failed failed, $skipped skipped"
  [[ $failed == 0 ]]
}
