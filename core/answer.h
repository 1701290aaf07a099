/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the relay says for others: errors to denied requests, copies of mirrored messages.
 */
#ifndef IVC_ANSWER_H
#define IVC_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kinds.h"

/* What the kind of a request does not say of its header, and an answer repeats. */
struct ivc_request {
    uint8_t session[2];
    uint8_t interface;
};

/* The 16 bytes of a header, as far as struct ivc_request wants them. */
struct ivc_request ivc_request_of(const uint8_t *header);

/* Denied, and its sender shall be told. */
bool ivc_is_answered(const struct ivc_kind *kind);

/* The header of an error that answers a request: its ids and session, and no payload. */
void ivc_make_answer(uint8_t *header, const struct ivc_kind *kind,
                     const struct ivc_request *request);

/* Send a copy of a message of a mirrored kind, if the kernel takes it at once; and count. Copies of
 * what is only watched are not counted. */
void ivc_send_copy(int socket, struct ivc_kind *kind, const uint8_t *data, size_t size);

#endif
