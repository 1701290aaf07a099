#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The two hosts of mapping.toml: network namespaces joined by one wire. Run as root.
set -eu

case "${1:-}" in
add)
    ip netns add ivc-hmi
    ip netns add ivc-adas
    ip link add eth0 netns ivc-hmi type veth peer name eth0 netns ivc-adas
    ip -n ivc-hmi address add 10.77.0.1/24 dev eth0
    ip -n ivc-adas address add 10.77.0.2/24 dev eth0
    for host in ivc-hmi ivc-adas; do
        ip -n "$host" link set lo up
        ip -n "$host" link set eth0 up
        ip -n "$host" route add 224.0.0.0/4 dev eth0 # service discovery
    done
    ;;
delete)
    ip netns delete ivc-hmi
    ip netns delete ivc-adas
    ;;
*)
    echo "usage: $0 add|delete" >&2
    exit 2
    ;;
esac
