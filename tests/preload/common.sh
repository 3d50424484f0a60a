# shellcheck shell=bash
# For the runners of this room: how a program is run bare and under flexlom. Sourced from the root
# of the repository, after tests/tools/expect.sh has been found there.
# shellcheck source=tests/tools/expect.sh
. tests/tools/expect.sh
case $build in /*) ;; *) build=$PWD/$build ;; esac
programs=$build/tests/preload
library=$build/libflexlom.so
simcuda=$build/simcuda
need "$library" "$simcuda/libcuda.so.1" "$programs"
# Nothing of the caller's setting may reach the programs.
for variable in $(compgen -v FLEXLOM_ || true) $(compgen -v SIMCUDA_ || true) LD_PRELOAD LD_BIND_NOW; do
  unset "$variable"
done
export SIMCUDA_MEMORY=256M SIMCUDA_DELAY=0 FLEXLOM_HOST_LIMIT=256M LD_LIBRARY_PATH=$simcuda
export PRELOAD_LOOKALIKE=$programs/liblookalike.so PRELOAD_SCOPE=$programs/libscope.so
export PRELOAD_PLUGIN=$programs/libplugin.so PRELOAD_CONSTRUCTOR=$programs/libconstructor.so
# A program that hangs fails; a core file helps nobody here.
limit=${PRELOAD_LIMIT:-60}
ulimit -c 0

bare() { run timeout "$limit" "$@"; }
# The preload is for the program alone, not for timeout.
under() { run timeout "$limit" env LD_PRELOAD="${first:+$first:}$library${last:+:$last}" "$@"; }

# same PROGRAM ARGS...: passes bare and under flexlom, with the same standard output, and without
# a word of ours
same() {
  bare "$@"
  expect_status 0
  local bare_out=$out
  under "$@"
  expect_status 0
  expect_out "$bare_out"
  if [[ $err != *flexlom* ]]; then good; else bad 'nothing should be said'; fi
}
expect_no_err_has() { if [[ $err != *"$1"* ]]; then good; else bad "errors should not have: $1"; fi; }
