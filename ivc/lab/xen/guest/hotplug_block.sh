#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# xl calls this for a guest's disk; Debian's own script waits for udev.
if [ "$1" = add ]; then
    disk=$(xenstore-read "$XENBUS_PATH/params")
    xenstore-write "$XENBUS_PATH/physical-device" "$(stat -c %t:%T "$disk")" \
        "$XENBUS_PATH/physical-device-path" "$disk" \
        "$XENBUS_PATH/hotplug-status" connected
fi
