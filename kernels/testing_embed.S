// The fat binary that nvcc made of testing.cu, as read-only data of the program that links this.
        .section .rodata.flexlom_testing_fatbin, "a", @progbits
        .balign 64
        .globl flexlom_testing_fatbin
        .type flexlom_testing_fatbin, @object
flexlom_testing_fatbin:
        .incbin "kernels/testing.fatbin"
        .globl flexlom_testing_fatbin_end
flexlom_testing_fatbin_end:
        .byte 0
        .size flexlom_testing_fatbin, . - flexlom_testing_fatbin
        .section .note.GNU-stack, "", @progbits
