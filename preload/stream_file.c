/* SPDX-License-Identifier: Apache-2.0 */
/* sendfile into a TCP connection: by copy, so that the bytes go where those of a send go. */
#define _GNU_SOURCE
#include <sys/stat.h>
#include <unistd.h>

#include "real.h"
#include "signals.h"
#include "stream.h"

#define PIECE 2048u /* on the stack of a thread that may have next to none */

/* What else can be read from (the kernel knows) keeps no place to go back to. */
static bool is_file(int fd)
{
    struct stat st;
    return ivc_sys(SYS_fstat, fd, &st) == 0 && S_ISREG(st.st_mode);
}

/* The next piece, by way of our own memory; 0 at the end of the file. */
static ssize_t send_piece(struct sock *s, int out, int in, off64_t at, size_t most, bool *stopped)
{
    uint8_t bytes[PIECE];
    long got = ivc_sys(SYS_pread64, in, bytes, most < sizeof(bytes) ? most : sizeof(bytes), at);
    if (got <= 0)
        return got;
    struct iovec iov = {bytes, (size_t)got};
    const struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    ssize_t n = stream_send(s, out, &msg, 0);
    *stopped = n < got;
    return n;
}

bool stream_sends_file(int in, const off64_t *offset, off64_t *at)
{
    *at = offset ? *offset : (off64_t)ivc_sys(SYS_lseek, in, 0, SEEK_CUR);
    return *at >= 0 && is_file(in);
}

ssize_t stream_sendfile(struct sock *s, int out, int in, off64_t at, size_t size)
{
    const uint32_t id = s->id;
    const struct signal_mark mark = signals_mark();
    bool stopped = false;
    size_t done = 0;
    while (done < size && !stopped && s->id == id && !(done && signals_ended_since(mark))) {
        off64_t from = at + (off64_t)done;
        ssize_t n = stream_send_file(s, out, in, from, size - done, &stopped);
        if (n == 0)
            n = send_piece(s, out, in, from, size - done, &stopped);
        if (n <= 0)
            return done ? (ssize_t)done : n;
        done += (size_t)n;
    }
    return (ssize_t)done;
}
