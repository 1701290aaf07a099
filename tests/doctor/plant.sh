#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Plants one fault in a sound field, as it happens to people: with ip, nft, tc and bridge alone.
#
#     hmi=NAMESPACE adas=NAMESPACE dom0=NAMESPACE plant.sh FAULT
#
# hmi and adas are two nodes' hosts (10.77.0.1, 10.77.0.2), dom0 has the bridge br0 between them.
set -eu
: "${hmi:?}" "${adas:?}" "${dom0:?}"

rules() { # HOOK RULES: of a chain in hmi
    printf 'table inet f { chain c { type filter hook %s priority 0; %s\n}\n}\n' "$1" "$2" |
        ip netns exec "$hmi" nft -f -
}
other_bridge() { # another interface of hmi, that leads nowhere
    ip -n "$hmi" link add d0 type bridge
    ip -n "$hmi" link set d0 up
}
readdress() { # ADDRESS: in place of hmi's
    ip -n "$hmi" address flush dev eth0
    ip -n "$hmi" address add "$1" dev eth0
}

case "$1" in
"no address") ip -n "$hmi" address flush dev eth0 ;;
"another address") readdress 10.77.0.7/24 ;;
"another netmask")
    readdress 10.77.0.1/16
    ip -n "$hmi" route add 224.0.0.0/4 dev eth0
    ;;
"interface down") ip -n "$hmi" link set eth0 down ;;
"no carrier") ip -n "$dom0" link set p1 down ;;
"no multicast") ip -n "$hmi" link set eth0 multicast off ;;
"loopback down") ip -n "$hmi" link set lo down ;;
"no namespace") ip netns delete "$hmi" ;;
"no multicast route") ip -n "$hmi" route del 224.0.0.0/4 ;;
"multicast elsewhere")
    other_bridge
    ip -n "$hmi" route add 224.224.224.0/24 dev d0
    ;;
"no route") ip -n "$hmi" route add unreachable 10.77.0.2 ;;
"routed") ip -n "$hmi" route add 10.77.0.2 via 10.77.0.9 ;;
"another way")
    other_bridge
    ip -n "$hmi" route add 10.77.0.2 dev d0
    ;;
"port in no bridge") ip -n "$dom0" link set p1 nomaster ;;
"two bridges")
    ip -n "$dom0" link add br1 type bridge
    ip -n "$dom0" link set br1 up
    ip -n "$dom0" link set p1 master br1
    ;;
"bridge down") ip -n "$dom0" link set br0 down ;;
"isolated ports")
    bridge -n "$dom0" link set dev p1 isolated on
    bridge -n "$dom0" link set dev p2 isolated on
    ;;
"blocked port") bridge -n "$dom0" link set dev p1 state 0 ;;
"address twice") ip -n "$dom0" address add 10.77.0.1/24 dev br0 ;;
"hardware address twice")
    mac=$(ip netns exec "$adas" cat /sys/class/net/eth0/address)
    ip -n "$hmi" link set eth0 address "$mac"
    ;;
"another MTU") ip -n "$hmi" link set eth0 mtu 1400 ;;
"discovery dropped") rules input "udp dport 30490 drop" ;;
"group dropped") rules output "ip daddr 224.0.0.0/4 drop" ;;
"service dropped") rules input "udp dport { 1, 30500-30520 } reject" ;;
"policy drop") rules input "policy drop;" ;;
"bridge drops")
    ip netns exec "$dom0" nft 'add table bridge f
        add chain bridge f c { type filter hook forward priority 0; policy drop; }'
    ;;
"loses all") tc -n "$hmi" qdisc add dev eth0 root netem loss 100% ;;
"loses some") tc -n "$hmi" qdisc add dev eth0 root netem loss 10% ;;
"late") tc -n "$hmi" qdisc add dev eth0 root netem delay 50ms ;;
"late at the port") tc -n "$dom0" qdisc add dev p1 root netem delay 50ms ;;
"damaged") tc -n "$adas" qdisc add dev eth0 root netem corrupt 1% ;;
"black hole") tc -n "$dom0" qdisc add dev p1 root blackhole ;;
"led astray")
    tc -n "$hmi" qdisc add dev eth0 clsact
    tc -n "$hmi" filter add dev eth0 ingress protocol ip u32 match ip dport 30490 0xffff \
        action mirred egress redirect dev lo
    ;;
"all led astray")
    tc -n "$hmi" qdisc add dev eth0 ingress
    tc -n "$hmi" filter add dev eth0 parent ffff: protocol ip u32 match u32 0 0 \
        action mirred egress redirect dev lo
    ;;
"slow") tc -n "$hmi" qdisc add dev eth0 root tbf rate 1mbit burst 32kbit latency 400ms ;;
"dropped by traffic control")
    tc -n "$hmi" qdisc add dev eth0 clsact
    tc -n "$hmi" filter add dev eth0 ingress matchall action drop
    ;;
"a port dropped by flower")
    tc -n "$hmi" qdisc add dev eth0 clsact
    tc -n "$hmi" filter add dev eth0 ingress protocol ip flower ip_proto udp dst_port 30490 action drop
    ;;
"a port dropped by u32")
    tc -n "$hmi" qdisc add dev eth0 ingress
    tc -n "$hmi" filter add dev eth0 parent ffff: protocol ip u32 match ip dport 30490 0xffff action drop
    ;;
"policed")
    tc -n "$hmi" qdisc add dev eth0 ingress
    tc -n "$hmi" filter add dev eth0 parent ffff: protocol ip u32 match u32 0 0 \
        police rate 1mbit burst 10k drop
    ;;
*)
    echo "plant.sh: no fault $1" >&2
    exit 2
    ;;
esac
