// flexlom_model_switch(void** from, void* to): see fiber.h.
        .text
        .globl  flexlom_model_switch
        .hidden flexlom_model_switch
        .type   flexlom_model_switch, @function
flexlom_model_switch:
        push    %rbp
        push    %rbx
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        mov     %rsp, (%rdi)
        mov     %rsi, %rsp
        pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %rbx
        pop     %rbp
        ret
        .size   flexlom_model_switch, .-flexlom_model_switch
        .section .note.GNU-stack,"",@progbits
