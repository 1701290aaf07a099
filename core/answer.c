/* SPDX-License-Identifier: Apache-2.0 */
#include "answer.h"

#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#define SOMEIP_REQUEST 0x00u
#define SOMEIP_ERROR 0x81u

struct ivc_request ivc_request_of(const uint8_t *header)
{
    return (struct ivc_request){.session = {header[10], header[11]}, .interface = header[13]};
}

/* Key 0 is of what has no header to answer to. */
bool ivc_is_answered(const struct ivc_kind *kind)
{
    return kind->action == IVC_ACTION_DENY && kind->detail != 0 && kind->key != 0 &&
           (kind->key & 0xff) == SOMEIP_REQUEST;
}

static void big_endian(uint8_t *at, unsigned bytes, uint64_t value)
{
    for (unsigned i = bytes; i > 0; i--, value >>= 8) {
        at[i - 1] = (uint8_t)value;
    }
}

/* Message types: Open SOME/IP 684. */
void ivc_make_answer(uint8_t *header, const struct ivc_kind *kind,
                     const struct ivc_request *request)
{
    const uint64_t key = kind->key;

    big_endian(header, 4, key >> 32);
    big_endian(header + 4, 4, 8);
    big_endian(header + 8, 2, key >> 16);
    memcpy(header + 10, request->session, sizeof(request->session));
    header[12] = (uint8_t)(key >> 8);
    header[13] = request->interface;
    header[14] = SOMEIP_ERROR;
    header[15] = (uint8_t)kind->detail;
}

void ivc_send_copy(int socket, struct ivc_kind *kind, const uint8_t *data, size_t size)
{
    const struct sockaddr_in to = {.sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)kind->detail),
                                   .sin_addr.s_addr = htonl((uint32_t)(kind->detail >> 16))};
    bool sent = sendto(socket, data, size, MSG_DONTWAIT | MSG_NOSIGNAL,
                       (const struct sockaddr *)&to, sizeof(to)) >= 0;

    if (kind->action == IVC_ACTION_MIRROR) {
        ivc_count(sent ? &kind->copied : &kind->uncopied, 1);
    }
}
