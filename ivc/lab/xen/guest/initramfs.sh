#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
# From nothing to the root disk, in dom0 (vda, vdb) and in a domU (xvda, xvdb) alike.
# The disks stay as they are: every machine writes into a tmpfs laid over them.
export PATH=/bin
busybox mount -t devtmpfs dev /dev
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
for module in /modules/*; do
    busybox insmod "$module"
done

disk=
tries=0
while [ -z "$disk" ]; do
    [ -b /dev/vda ] && [ -b /dev/vdb ] && disk=/dev/vd
    [ -b /dev/xvda ] && [ -b /dev/xvdb ] && disk=/dev/xvd
    tries=$((tries + 1))
    if [ $tries -gt 600 ]; then
        echo "ivc-lab: no disks"
        echo o >/proc/sysrq-trigger
    fi
    busybox usleep 50000
done

busybox mount -t ext4 -o ro "${disk}a" /disk
busybox mount -t tmpfs tmpfs /over
busybox mkdir /over/upper /over/work
busybox mount -t overlay -o lowerdir=/disk,upperdir=/over/upper,workdir=/over/work root /root
busybox mkdir -p /root/opt/ivc
busybox mount -t ext4 -o ro "${disk}b" /root/opt/ivc
busybox mount -o move /dev /root/dev
busybox umount /proc
busybox umount /sys
exec busybox switch_root /root /bin/sh /opt/ivc/lab/init.sh
