# dlsym, as programs and libraries see it, at both of glibc's symbol versions.
#
# Only names that start with "cu" and a capital letter, asked of an explicit handle, are ours to look
# at. Everything else TAIL-JUMPS to the real dlsym with the caller's return address in place, because
# RTLD_NEXT and RTLD_DEFAULT mean "seen from the caller". A wrapper in C would break them.
#
# rdi: handle   rsi: name   (rsp): return address
        .text
        .p2align 4
        .globl  dlsym_at_2_2_5
        .globl  dlsym_at_2_34
        .type   dlsym_at_2_2_5, @function
        .type   dlsym_at_2_34, @function
dlsym_at_2_2_5:
dlsym_at_2_34:
        .cfi_startproc
        endbr64
        leaq    1(%rdi), %rax           # RTLD_NEXT is -1, RTLD_DEFAULT 0
        cmpq    $1, %rax
        jbe     .Lforward
        testq   %rsi, %rsi
        jz      .Lforward
        cmpb    $'c', (%rsi)
        jne     .Lforward
        cmpb    $'u', 1(%rsi)
        jne     .Lforward
        movzbl  2(%rsi), %eax
        subl    $'A', %eax
        cmpl    $25, %eax
        ja      .Lforward
        movq    (%rsp), %rdx
        jmp     flexlom_lookup          # (handle, name, caller): returns to our caller
.Lforward:
        movq    flexlom_real_dlsym(%rip), %rax
        testq   %rax, %rax
        jz      .Lfind
        jmp     *%rax
.Lfind:
        pushq   %rdi
        .cfi_adjust_cfa_offset 8
        pushq   %rsi
        .cfi_adjust_cfa_offset 8
        subq    $8, %rsp
        .cfi_adjust_cfa_offset 8
        call    flexlom_find_dlsym
        addq    $8, %rsp
        .cfi_adjust_cfa_offset -8
        popq    %rsi
        .cfi_adjust_cfa_offset -8
        popq    %rdi
        .cfi_adjust_cfa_offset -8
        jmp     *%rax
        .cfi_endproc
        .size   dlsym_at_2_2_5, .-dlsym_at_2_2_5
        .size   dlsym_at_2_34, .-dlsym_at_2_34

        .symver dlsym_at_2_2_5, dlsym@GLIBC_2.2.5
        .symver dlsym_at_2_34, dlsym@@GLIBC_2.34
        .section .note.GNU-stack,"",@progbits
