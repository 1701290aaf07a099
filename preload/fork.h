/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fork: two processes have the same sockets, and what one puts on a ring, or takes
 * from one, the other cannot know. Both use the kernel alone (FORKED), after what
 * rings hold. Once every child has ended, or become another program, the parent's
 * sockets that no other program inherits go back to rings.
 */
#ifndef IVC_FORK_H
#define IVC_FORK_H

void fork_prepare(void);
void fork_parent(void);
void fork_child(void);

/* Before a child that runs another program at once, by vfork or posix_spawn: connections it inherits
 * are the kernel's for good, as before an exec; it has the rest of us never. */
void spawn_prepare(void);

/* Has a child gone? Called where mail is read. */
void fork_look(void);

#endif
