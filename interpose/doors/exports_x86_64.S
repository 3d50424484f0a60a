# The exported names of all doors, for programs linked against libcuda directly.
#
# Each is one indirect jump to its door, so that no prototype has to be written twice and a call
# arrives with its arguments and return address untouched.
        .macro  FLEXLOM_EXPORT symbol
        .p2align 4
        .globl  \symbol
        .type   \symbol, @function
\symbol:
        endbr64
        jmp     *flexlom_export_\symbol(%rip)
        .size   \symbol, .-\symbol
        .endm

        .text
#include "exports.inc"
        .section .note.GNU-stack,"",@progbits
