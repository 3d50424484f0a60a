# Turns entry_points.tsv into rows of an X-macro, one for every ABI symbol:
#   FLEXLOM_ENTRY(symbol, prototype, door)
# `prototype` names a declaration of the same type: the _ptsz/_ptds twins have their base's.
# With -v list=exports it prints the symbols that have a door instead.
BEGIN { FS = "\t" }
NR == 1 { next }
{
  n = split($3, symbols, ",")
  for (i = 1; i <= n; i++) {
    symbol = symbols[i]
    prototype = symbol
    sub(/_pt[sd][zs]$/, "", prototype)
    if (list == "exports") {
      if ($4 != "pass") print symbol
    } else {
      printf "FLEXLOM_ENTRY(%s, %s, %s)\n", symbol, prototype, $4
    }
  }
}
