#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The first program of dom0 and of the domUs. What a machine is comes on the kernel's command
# line: ivc.name, and ivc.data and ivc.control, its addresses on the two bridges.
# In dom0 ivc.init=systemd hands over to systemd, which starts this again as a service.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

mount_everything() {
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
}

read_command_line() {
    for word in $(cat /proc/cmdline); do
        case $word in
        ivc.name=*) name=${word#*=} ;;
        ivc.data=*) data=${word#*=} ;;
        ivc.control=*) control=${word#*=} ;;
        ivc.init=*) init=${word#*=} ;;
        esac
    done
}

become_systemd() {
    mkdir -p /var/log/xen/console
    echo 'XENCONSOLED_ARGS=--log=all' >>/etc/default/xen
    cat >/etc/systemd/system/ivc-lab.service <<END
[Unit]
After=xen.service
[Service]
ExecStart=/bin/sh /opt/ivc/lab/init.sh
END
    mkdir -p /etc/systemd/system/multi-user.target.wants
    ln -s ../ivc-lab.service /etc/systemd/system/multi-user.target.wants
    umount /tmp /run /dev/shm /dev/pts /proc/xen /sys /proc
    exec /lib/systemd/systemd --unit=multi-user.target
}

start_xen() { # as Debian's xen.service does where there is an init
    mkdir -p /var/log/xen/console /run/xen
    xen=$(echo /usr/lib/xen-4.*/bin)
    "$xen/xenstored"
    "$xen/xen-init-dom0"
    "$xen/xenconsoled" --log=all
}

bridge() { # no learning delay, no snooping: a plain wire
    ip link add "$1" type bridge mcast_snooping 0
    ip address add "$2" dev "$1"
    ip link set "$1" up
}

interface() {
    ip address add "$2" dev "$1"
    ip link set "$1" up
}

few_grants() { # disks that keep their pages granted hide who else does
    echo options xen-blkback feature_persistent=0 >/etc/modprobe.d/ivc-lab.conf
}

[ $$ = 1 ] && mount_everything && few_grants
init=
read_command_line
[ $$ = 1 ] && [ "$init" = systemd ] && become_systemd

hostname "$name"
modprobe -a xen-evtchn xen-gntdev xen-gntalloc
if [ "$name" = dom0 ]; then
    modprobe -a xen-netback xen-blkback virtio_net bridge
    [ "$init" = systemd ] || start_xen
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
