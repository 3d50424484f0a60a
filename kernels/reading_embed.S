// The fat binary that nvcc made of reading.cu, as read-only data of the program that links this.
        .section .rodata.flexlom_reading_fatbin, "a", @progbits
        .balign 64
        .globl flexlom_reading_fatbin
        .type flexlom_reading_fatbin, @object
flexlom_reading_fatbin:
        .incbin "kernels/reading.fatbin"
        .globl flexlom_reading_fatbin_end
flexlom_reading_fatbin_end:
        .byte 0
        .size flexlom_reading_fatbin, . - flexlom_reading_fatbin
        .section .note.GNU-stack, "", @progbits
