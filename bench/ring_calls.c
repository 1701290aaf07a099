/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What build/calls does by sockets, by the bare ring: COUNT messages of 64 bytes written, then read.
 *
 *   ring_calls COUNT
 *
 * bench/hop.py has the instructions of the two functions counted.
 */
#define _GNU_SOURCE
#include "direction.h"

#define SIZE 64

__attribute__((noipa)) static void counted_sends(struct direction *d, int count)
{
    static const char data[SIZE];

    for (int i = 0; i < count; i++)
        put(&d->tx, data, SIZE);
}

__attribute__((noipa)) static void counted_receives(struct direction *d, int count)
{
    static char data[LARGEST];

    for (int i = 0; i < count; i++)
        (void)get(&d->rx, data);
}

int main(int argc, char **argv)
{
    struct direction d;

    if (argc != 2)
        return 2;
    direction_open(&d);
    counted_sends(&d, atoi(argv[1]));
    counted_receives(&d, atoi(argv[1]));
    return 0;
}
