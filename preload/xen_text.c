/* SPDX-License-Identifier: Apache-2.0 */
#include "xen_text.h"

#include <string.h>

void text_add(struct xen_text *text, const char *string)
{
    size_t length = strlen(string);
    if (length > XEN_TEXT_MOST - 1 - text->length)
        length = XEN_TEXT_MOST - 1 - text->length;
    memcpy(text->at + text->length, string, length);
    text->length += length;
    text->at[text->length] = 0;
}

void text_add_number(struct xen_text *text, uint64_t number)
{
    char digits[21];
    char *at = digits + sizeof(digits) - 1;
    *at = 0;
    do {
        *--at = (char)('0' + number % 10);
        number /= 10;
    } while (number);
    if (text->length)
        text_add(text, " ");
    text_add(text, at);
}

void text_add_nonce(struct xen_text *text, uint32_t nonce)
{
    char digits[9];
    for (unsigned i = 0; i < 8; i++)
        digits[i] = "0123456789abcdef"[(nonce >> (28 - 4 * i)) & 15];
    digits[8] = 0;
    text_add(text, digits);
}

bool text_numbers(const char *text, size_t length, uint64_t *numbers, size_t count)
{
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && (at >= length || text[at++] != ' '))
            return false;
        size_t begin = at;
        numbers[i] = 0;
        for (; at < length && text[at] >= '0' && text[at] <= '9'; at++) {
            numbers[i] = 10 * numbers[i] + (uint64_t)(text[at] - '0');
            if (numbers[i] >= UINT64_MAX / 100)
                return false;
        }
        if (at == begin)
            return false;
    }
    return at == length;
}
