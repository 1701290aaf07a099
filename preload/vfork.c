/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vfork: its child is about to run another program, which reads past us what it inherits.
 *
 * It returns twice by one return address, with the caller's stack in use in between: nobody may
 * stand between them, so the exported symbol jumps on, when what is ours has been done.
 */
#define _GNU_SOURCE
#include "fork.h"

#include <unistd.h>

#include "real.h"

typedef pid_t (*vfork_function)(void);

vfork_function ivc_before_vfork(void);

__attribute__((used, visibility("hidden"))) vfork_function ivc_before_vfork(void)
{
    spawn_prepare();
    return real(vfork);
}

#if defined(__x86_64__)
#define KEEP_STACK_ALIGNED "endbr64\n subq $8, %rsp\n"
#define GO_ON "addq $8, %rsp\n jmp *%rax\n"
#define CALL "call"
#elif defined(__aarch64__)
#define KEEP_STACK_ALIGNED "hint #34\n stp x29, x30, [sp, #-16]!\n" /* bti c */
#define GO_ON "ldp x29, x30, [sp], #16\n mov x16, x0\n br x16\n"
#define CALL "bl"
#endif

__asm__(".text\n"
        ".globl vfork\n"
        ".type vfork, %function\n"
        "vfork:\n" KEEP_STACK_ALIGNED CALL " ivc_before_vfork\n" GO_ON ".size vfork, . - vfork\n");
