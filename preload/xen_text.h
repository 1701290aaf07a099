/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The few words of text the wrapper exchanges over XenStore (docs/xen.md).
 */
#ifndef IVC_XEN_TEXT_H
#define IVC_XEN_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define XEN_TEXT_MOST 160u

/* Text being built; never longer than it has room, always terminated. */
struct xen_text {
    char at[XEN_TEXT_MOST];
    size_t length;
};

void text_add(struct xen_text *text, const char *string);
void text_add_number(struct xen_text *text, uint64_t number); /* decimal, after a space if any */
void text_add_nonce(struct xen_text *text, uint32_t nonce);   /* eight hex digits */

/* Numbers separated by single spaces, exactly `count` of them, each below UINT64_MAX / 100. */
bool text_numbers(const char *text, size_t length, uint64_t *numbers, size_t count);

#endif
