// The fat binary that nvcc made of fingerprint.cu, as read-only data of the program that links this.
        .section .rodata.flexlom_fingerprint_fatbin, "a", @progbits
        .balign 64
        .globl flexlom_fingerprint_fatbin
        .hidden flexlom_fingerprint_fatbin
        .type flexlom_fingerprint_fatbin, @object
flexlom_fingerprint_fatbin:
        .incbin "kernels/fingerprint.fatbin"
        .globl flexlom_fingerprint_fatbin_end
        .hidden flexlom_fingerprint_fatbin_end
flexlom_fingerprint_fatbin_end:
        .byte 0
        .size flexlom_fingerprint_fatbin, . - flexlom_fingerprint_fatbin
        .section .note.GNU-stack, "", @progbits
