#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# xl calls this for a guest's network interface; Debian's own script waits for udev.
if [ "$1" = online ]; then
    ip link set "$vif" master "$(xenstore-read "$XENBUS_PATH/bridge")" up
    xenstore-write "$XENBUS_PATH/hotplug-status" connected
fi
