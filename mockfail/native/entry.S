/* The exported functions. Each saves the argument registers, asks mk_gate() where the call goes,
 * and jumps there with registers and stack as the client left them, so that neither we nor the
 * target need know a signature; the real dlopen even sees its caller's return address, by which it
 * finds the RUNPATH and $ORIGIN of the library that asks. None has a floating-point argument. */
#include "generated.h"

#if defined(__x86_64__)

.macro SAVE
    .cfi_startproc
    endbr64
    pushq %rdi
    .cfi_adjust_cfa_offset 8
    pushq %rsi
    .cfi_adjust_cfa_offset 8
    pushq %rdx
    .cfi_adjust_cfa_offset 8
    pushq %rcx
    .cfi_adjust_cfa_offset 8
    pushq %r8
    .cfi_adjust_cfa_offset 8
    pushq %r9
    .cfi_adjust_cfa_offset 8
    subq $8, %rsp
    .cfi_adjust_cfa_offset 8
.endm

.macro RESTORE
    addq $8, %rsp
    .cfi_adjust_cfa_offset -8
    popq %r9
    .cfi_adjust_cfa_offset -8
    popq %r8
    .cfi_adjust_cfa_offset -8
    popq %rcx
    .cfi_adjust_cfa_offset -8
    popq %rdx
    .cfi_adjust_cfa_offset -8
    popq %rsi
    .cfi_adjust_cfa_offset -8
    popq %rdi
    .cfi_adjust_cfa_offset -8
.endm

.macro FUNCTION name
    .globl \name
    .type \name, @function
    .balign 16
\name:
    endbr64
    movl $index, %r11d
    jmp ask_gate
    .size \name, . - \name
    .set index, index + 1
.endm

    .text
    .type ask_gate, @function
ask_gate: /* r11: the function's number */
    SAVE
    movq %rsi, %rdx
    movq %rdi, %rsi
    movl %r11d, %edi
    call mk_gate
    movq %rax, %r11
    movq %rdx, %r10
    RESTORE
    testq %r11, %r11
    jz 1f
    jmp *%r11
1:  movq %r10, %rax
    ret
    .cfi_endproc
    .size ask_gate, . - ask_gate

/* ask gives the name to open and the function behind us. */
.macro REDIRECT name ask argument
    .globl \name
    .type \name, @function
    .balign 16
\name:
    SAVE
    movq \argument, %rdi
    call \ask
    movq %rdx, %r11
    movq %rax, %r10
    RESTORE
    movq %r10, \argument
    testq %r11, %r11
    jz 1f
    jmp *%r11
1:  xorl %eax, %eax
    ret
    .cfi_endproc
    .size \name, . - \name
.endm

#ifndef MK_STAND_IN
    REDIRECT dlopen, mk_redirect, %rdi
    REDIRECT dlmopen, mk_redirect_namespace, %rsi
#endif

#elif defined(__aarch64__)

.macro SAVE
    .cfi_startproc
    hint #34 /* bti c */
    stp x29, x30, [sp, #-96]!
    .cfi_adjust_cfa_offset 96
    .cfi_rel_offset x29, 0
    .cfi_rel_offset x30, 8
    stp x0, x1, [sp, #16]
    stp x2, x3, [sp, #32]
    stp x4, x5, [sp, #48]
    stp x6, x7, [sp, #64]
    str x8, [sp, #80]
.endm

.macro RESTORE
    ldp x0, x1, [sp, #16]
    ldp x2, x3, [sp, #32]
    ldp x4, x5, [sp, #48]
    ldp x6, x7, [sp, #64]
    ldr x8, [sp, #80]
    ldp x29, x30, [sp], #96
    .cfi_restore x29
    .cfi_restore x30
    .cfi_adjust_cfa_offset -96
.endm

.macro FUNCTION name
    .globl \name
    .type \name, %function
    .balign 16
\name:
    hint #34
    mov w16, #index
    b ask_gate
    .size \name, . - \name
    .set index, index + 1
.endm

    .text
    .type ask_gate, %function
ask_gate: /* x16: the function's number */
    SAVE
    mov x2, x1
    mov x1, x0
    mov w0, w16
    bl mk_gate
    mov x16, x0
    mov x17, x1
    RESTORE
    cbz x16, 1f
    br x16
1:  mov x0, x17
    ret
    .cfi_endproc
    .size ask_gate, . - ask_gate

.macro REDIRECT name ask argument
    .globl \name
    .type \name, %function
    .balign 16
\name:
    SAVE
    mov x0, \argument
    bl \ask
    mov x17, x0
    mov x16, x1
    RESTORE
    mov \argument, x17
    cbz x16, 1f
    br x16
1:  mov x0, xzr
    ret
    .cfi_endproc
    .size \name, . - \name
.endm

#ifndef MK_STAND_IN
    REDIRECT dlopen, mk_redirect, x0
    REDIRECT dlmopen, mk_redirect_namespace, x1
#endif

#else
#error "only x86-64 and aarch64 have trampolines"
#endif

    .set index, 0
#define MK_EXPORT(name, device) FUNCTION name;
    MK_FUNCTIONS(MK_EXPORT)

    .section .note.GNU-stack, "", %progbits
