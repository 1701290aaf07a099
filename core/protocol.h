/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Control messages between an IVC Wrapper and the IVC Controller.
 *
 * One connection a process. Every message is one packet of IVC_MSG_SIZE bytes
 * and what is attached to it:
 *   Linux  SOCK_SEQPACKET; attached are descriptors (SCM_RIGHTS)
 *   Xen    a pair of rings with the controller's domain (docs/xen.md); a record
 *          is the message and, behind it, 32-bit words: domain ids, grant
 *          references, event-channel ports
 * What is attached to which type stands with the type, [Linux | Xen]. Fields a
 * type does not name are zero. Little-endian; addresses and ports are plain
 * numbers. ivc/controller/protocol.py declares the same bytes with construct; a
 * test proves the two equal.
 *
 * Who a process is (its node) is never in a message: the controller takes it
 * from the kernel (network namespace of the peer) or from Xen (domid).
 *
 * Setting up a flow:
 *   sender's process          controller             receiver's process
 *     WANT            ->
 *                     <- ATTACH_TX    ATTACH_RX ->     each maps its own region
 *     MAPPED          ->                      <- MAPPED
 *                        seals both regions
 *                     <- PEER              PEER ->     each maps the other's;
 *                                                      the sender gets the bell
 *                                             <- ACK   receiver now looks at it
 *                     <- ACTIVE                        sender may use the ring
 *
 * A TCP connection has two flows. Both ends say BOUND with IVC_SOCK_STREAM once
 * they have seen it ESTABLISHED. When the controller knows both, by addresses and
 * ports crosswise, it answers both with the ATTACHes of both flows: that is the
 * offer. MAPPED confirms: the end has looked again, it is still ESTABLISHED, and
 * its counts are the kernel's; else DROPPED says why not. ROUTE tells either end
 * what became of it.
 *
 * A flow may come without a WANT, and a ROUTE with it: who is denied what it asks of a
 * socket is answered by ring, even if that socket itself never sends.
 */
#ifndef IVC_PROTOCOL_H
#define IVC_PROTOCOL_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define IVC_PROTOCOL_VERSION 1
#define IVC_MSG_SIZE 64u
#define IVC_MSG_MAX_FDS 2u
#define IVC_MSG_MAX_WORDS 992u /* a record of a control ring holds them */
#define IVC_STATIC_WORDS 16u   /* the static line of a region, as words */

enum ivc_msg_type {
    /* wrapper -> controller */
    IVC_MSG_HELLO = 1,   /* pid; arg = IVC_RING_ABI_MAJOR
                            [- | references of the statistics page]               */
    IVC_MSG_BOUND = 2,   /* socket, local, peer (0 = unconnected), flags
                            [doorbell, only with the first BOUND of a socket; later
                            ones update | -]                                      */
    IVC_MSG_UNBOUND = 3, /* socket closed or no longer ours                       */
    IVC_MSG_JOIN = 4,    /* socket, local.ip = multicast group                    */
    IVC_MSG_LEAVE = 5,   /* socket, local.ip = multicast group                    */
    IVC_MSG_WANT = 6,    /* socket, local = source, peer = destination            */
    IVC_MSG_MAPPED = 7,  /* flow: own region is mapped (flags = enum ivc_role)
                            [- | references of its pages; a receiver's port first] */
    IVC_MSG_ACK = 8,     /* flow: receiver looks at the ring from now on          */
    IVC_MSG_DROPPED = 9, /* flow: this end has let go of it (reason)              */
    IVC_MSG_TRACED = 10, /* flow = that of TRACE: its memory is ours, or could not be had
                            [never sent | references of its pages; none: it could not] */

    /* controller -> wrapper */
    IVC_MSG_WELCOME = 32,   /* node [control page (read-only), statistics page | -]    */
    IVC_MSG_ATTACH_TX = 33, /* socket, flow, local, peer, arg = order, flags = IVC_FLOW_*
                               [own region (writable) | domain that may read it, the
                               static line to write into it]                           */
    IVC_MSG_ATTACH_RX = 34, /* socket, flow, local = destination, peer = source,
                               arg = order, flags [as ATTACH_TX; the domain is also
                               the one that rings]                                     */
    IVC_MSG_PEER = 35,      /* flow, flags = our role [the other's region (read-only);
                               for the sender also the receiver's doorbell | domain of
                               the other's region; for the sender the port to bind;
                               references]                                             */
    IVC_MSG_ACTIVE = 36,    /* flow: sender may use the ring                           */
    IVC_MSG_CLOSE = 37,     /* flow, flags = our role, reason: let go of it            */
    IVC_MSG_ROUTE = 38,     /* socket, peer = destination, reason, flags: what became
                               of a WANT; sent again whenever it changes               */
    IVC_MSG_TABLE = 39,     /* a new match table has been published                    */
    IVC_MSG_QUIESCE = 40,   /* the domain is to be saved: leave, holding nothing that no
                               save preserves (Xen)                                    */
    IVC_MSG_TRACE = 41,     /* arg = bytes to keep of a message, flags = IVC_TRACE_*: copy what is
                               sent to this trace ring (core/trace.h); arg = 0: no longer
                               [its memory (writable), its reader's page (read-only); nothing
                               with 0 | domain that may read it; reference of its reader's
                               page; log2 of its bytes; what the real clock is ahead of the
                               monotonic one there in ns, low and high half; flow = the number
                               of this order; nothing with 0]                          */
};

/* flags of BOUND */
#define IVC_SOCK_REUSE 0x01u   /* SO_REUSEADDR or SO_REUSEPORT is set          */
#define IVC_SOCK_MC_ALL 0x02u  /* IP_MULTICAST_ALL (the kernel's default)      */
#define IVC_SOCK_MC_LOOP 0x04u /* IP_MULTICAST_LOOP (the kernel's default)     */
#define IVC_SOCK_STREAM 0x08u  /* an end of an established TCP connection      */

/* flags of ATTACH_TX and ATTACH_RX */
#define IVC_FLOW_RELAY 0x01u  /* the other end is the controller               */
#define IVC_FLOW_STREAM 0x02u /* one way of a TCP connection                   */

/* flags of ROUTE */
#define IVC_ROUTE_COMPLETE 0x01u /* every receiver of this destination is reached
                                    by an active flow: no kernel copy is needed */

/* flags of TRACE */
#define IVC_TRACE_ALL 0x01u /* also what goes by the kernel's network */

struct ivc_endpoint {
    uint32_t ip;
    uint16_t port;
    uint16_t reserved;
};

struct ivc_msg {
    uint16_t version;          /*  0 IVC_PROTOCOL_VERSION */
    uint16_t type;             /*  2 enum ivc_msg_type */
    uint32_t socket;           /*  4 wrapper's number of a socket, never reused */
    uint32_t flow;             /*  8 controller's number of a flow, never reused */
    uint32_t node;             /* 12 */
    struct ivc_endpoint local; /* 16 */
    struct ivc_endpoint peer;  /* 24 */
    uint32_t flags;            /* 32 */
    uint32_t reason;           /* 36 enum ivc_reason */
    uint64_t arg;              /* 40 */
    uint32_t pid;              /* 48 as the process sees itself; informational */
    uint8_t reserved[12];
};

static_assert(sizeof(struct ivc_endpoint) == 8, "layout");
static_assert(offsetof(struct ivc_msg, local) == 16, "layout");
static_assert(offsetof(struct ivc_msg, flags) == 32, "layout");
static_assert(offsetof(struct ivc_msg, arg) == 40, "layout");
static_assert(sizeof(struct ivc_msg) == IVC_MSG_SIZE, "layout");

/*
 * Why a socket, or one destination of it, is on the path it is on. Numbers are
 * stable; docs/reasons.md explains each. There is no OTHER.
 */
enum ivc_reason {
    IVC_REASON_NONE = 0,            /* on rings                                      */
    IVC_REASON_NOT_UDP = 1,         /* TCP, and the mapping says: promote = never    */
    IVC_REASON_NOT_BOUND = 2,       /* no local address yet                          */
    IVC_REASON_NO_NODE = 3,         /* local address belongs to no planned node      */
    IVC_REASON_NO_TRAFFIC = 4,      /* nothing sent or received so far               */
    IVC_REASON_NOT_PLANNED = 5,     /* neither end is a configured SOME/IP endpoint  */
    IVC_REASON_EXTERNAL = 6,        /* peer is outside the hypervisor                */
    IVC_REASON_SAME_NODE = 7,       /* peer is on this node: loopback                */
    IVC_REASON_NO_RECEIVER = 8,     /* nobody with the wrapper is bound there        */
    IVC_REASON_AMBIGUOUS = 9,       /* several sockets could receive it              */
    IVC_REASON_PENDING = 10,        /* flow is being set up                          */
    IVC_REASON_NO_CONTROLLER = 11,  /* controller cannot be reached                  */
    IVC_REASON_QUOTA = 12,          /* node has used up its share of memory or flows */
    IVC_REASON_OPTION = 13,         /* a socket option rings do not honour is set    */
    IVC_REASON_TOO_LARGE = 14,      /* datagram larger than half the ring            */
    IVC_REASON_POISONED = 15,       /* peer broke the ring's rules                   */
    IVC_REASON_PEER_GONE = 16,      /* peer process or socket ended                  */
    IVC_REASON_FORKED = 17,         /* inherited over fork                           */
    IVC_REASON_RULE = 18,           /* mapping says: network                         */
    IVC_REASON_DENIED = 19,         /* mapping says: deny                            */
    IVC_REASON_RESOURCES = 20,      /* out of memory or descriptors                  */
    IVC_REASON_WILDCARD = 21,       /* bound to 0.0.0.0 on a host with several nodes */
    IVC_REASON_REPLANNED = 22,      /* the plan changed                              */
    IVC_REASON_MULTICAST_PARTLY = 23, /* some members are reached by the kernel only */
    IVC_REASON_NESTED = 24,         /* its epoll set is itself polled or in another set */
    IVC_REASON_SHORT_LIVED = 25,    /* TCP: too young to be worth rings              */
    IVC_REASON_FOREIGN_IO = 26,     /* TCP: bytes went past the wrapper              */
    IVC_REASON_NOT_CONFIRMED = 27,  /* TCP: an end is not (or no more) established   */
    /* 28 was TCP that had no relay, of an older controller */
    IVC_REASON_QUIESCED = 29,       /* one end's domain is quiesced                  */
    IVC_REASON_HANDED_ON = 30,      /* given to another process, or program by exec  */
};

#endif
