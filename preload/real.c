/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "real.h"

#include <dlfcn.h>
#include <string.h>

struct ivc_real ivc_real_table;

/*
 * glibc 2.34 moved dlsym from libdl to libc under a new version. The one it had
 * before is in both, so that a library built there still loads on an older one.
 */
#if defined(__GLIBC__) && defined(__x86_64__)
__asm__(".symver dlsym,dlsym@GLIBC_2.2.5");
#elif defined(__GLIBC__) && defined(__aarch64__)
__asm__(".symver dlsym,dlsym@GLIBC_2.17");
#endif

/* dlsym returns an object pointer; ISO C has no cast from it to a function. */
static void resolve(void *slot, const char *name)
{
    void *symbol = dlsym(RTLD_NEXT, name);
    memcpy(slot, &symbol, sizeof(symbol));
}

void ivc_real_init(void)
{
    struct ivc_real table;
#define X(name, ret, params) resolve(&table.name, #name);
#include "symbols.def"
#undef X
    /* `socket` is what real() tests, so it must not be seen before the rest:
     * two threads may resolve at once, both to the same values. */
    int (*last)(int, int, int) = table.socket;
    table.socket = ivc_real_table.socket;
    ivc_real_table = table;
    /* release: pairs with the acquire in real() */
    __atomic_store_n(&ivc_real_table.socket, last, __ATOMIC_RELEASE);
}
