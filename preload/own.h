/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The wrapper's own descriptors: high numbers, close-on-exec, marked in the
 * table so that the application's close() and close_range() pass them by.
 */
#ifndef IVC_OWN_H
#define IVC_OWN_H

#include <stdbool.h>

/* Move a fresh descriptor up and mark it. Passes -errno through. */
int own_fd(int fd);
void own_close(int fd); /* -1 is fine */
bool own_is(int fd);

#endif
