#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The first program of dom0 and of the domUs. What a machine is comes on the kernel's command
# line: ivc.name, and ivc.data and ivc.control, its addresses on the two bridges.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mkdir -p /dev/pts /dev/shm /run/lock
ln -s /proc/self/fd /dev/fd
ln -s fd/0 /dev/stdin
ln -s fd/1 /dev/stdout
ln -s fd/2 /dev/stderr
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t xenfs xenfs /proc/xen
ip link set lo up
for word in $(cat /proc/cmdline); do
    case $word in
    ivc.name=*) name=${word#*=} ;;
    ivc.data=*) data=${word#*=} ;;
    ivc.control=*) control=${word#*=} ;;
    esac
done
hostname "$name"
modprobe -a xen-evtchn xen-gntdev xen-gntalloc

bridge() { # no learning delay, no snooping: a plain wire
    ip link add "$1" type bridge mcast_snooping 0
    ip address add "$2" dev "$1"
    ip link set "$1" up
}

interface() {
    ip address add "$2" dev "$1"
    ip link set "$1" up
}

if [ "$name" = dom0 ]; then
    modprobe -a xen-netback xen-blkback virtio_net bridge
    mkdir -p /var/log/xen/console /run/xen
    xen=$(echo /usr/lib/xen-4.*/bin)
    "$xen/xenstored"
    "$xen/xen-init-dom0"
    "$xen/xenconsoled" --log=all
    interface eth0 10.0.2.15/24 # QEMU's user network: only the command server's port
    bridge br0 "$data"
    bridge ctl "$control"
else
    modprobe xen-netfront
    interface eth0 "$data"
    interface eth1 "$control"
    ip route add 224.0.0.0/4 dev eth0
fi

while :; do # the shell stays process 1 and buries orphans
    python3 /opt/ivc/lab/command_server.py
    sleep 1
done
