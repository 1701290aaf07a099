# SPDX-License-Identifier: Apache-2.0
"""The laboratory itself: Xen in QEMU for the time of a `with` block.

    with XenLab() as lab:
        lab.dom0.run(["xl", "list"])
        lab.domU("hmi").run(["ping", "-c", "1", "10.77.0.2"])

dom0 and the domUs share the bridge `br0`, as virtual ECUs do. A second bridge,
`ctl`, carries the laboratory's own commands, so that the counters of the first
show the tests' traffic alone. The outside reaches dom0's command server and
nothing else, and no machine reaches the outside.
"""

from __future__ import annotations

import socket
import subprocess
import time
import types
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Interface

from ivc.lab.hosts import Host, Lab, LabError, Mode, stop
from ivc.lab.xen.cache import say, saying
from ivc.lab.xen.image import images, require_tools
from ivc.lab.xen.layer import make_layer
from ivc.lab.xen.machine import Machine

BRIDGES = ("br0", "ctl")
_SERVER_PORT = 7000
# Generous: on a busy machine everything inside an emulator takes ten times as long.
_BOOT_SECONDS = 300.0
_XL_SECONDS = 180.0
_TAIL_LINES = 25

# Found by trial: `max` crashes a PV dom0; a PVH guest needs npt and, emulated, no rdtscp.
_CPU = "Opteron_G3,+svm,+npt,-rdtscp"
# One pinned virtual CPU for dom0 and one physical for each guest: the steadiest figures.
# dom0 shares its CPU with a guest: with the scheduler's usual rate limit whoever is woken waits
# up to a millisecond for the other to have had its share, and that would be all one measures.
# The console ring holds all that the debug keys print (see counts.py).
_XEN = (
    "console=com1 com1=115200,8n1 conring_size=1M sched_ratelimit_us=0 "
    "dom0_mem=1024M,max:1024M dom0_max_vcpus=1 dom0_vcpus_pin"
)
_MEMORY_MIB = 3072
_GUEST_MEMORY_MIB = 256


@dataclass(frozen=True, slots=True)
class Place:
    """Where a machine is: addresses on the data and control bridges, the physical CPU."""

    data: IPv4Interface
    control: IPv4Interface
    cpu: int

    @classmethod
    def number(cls, number: int) -> Place:
        """The place of the guest with that number; 254 is dom0's."""
        data, control = (IPv4Interface(f"10.{net}.0.{number}/24") for net in (77, 78))
        return cls(data, control, cpu=number % 2)

    def kernel_arguments(self, name: str) -> str:
        return f"console=hvc0 ivc.name={name} ivc.data={self.data} ivc.control={self.control}"


DOM0_PLACE = Place.number(254)
GUESTS = {"hmi": Place.number(1), "adas": Place.number(2)}


class DomU(Machine):
    """A guest. It may be destroyed and created again as often as one likes."""

    def __init__(
        self, name: str, port: int, place: Place, dom0: Machine, settings: str = ""
    ) -> None:
        super().__init__(name, port, relay=str(place.control.ip))
        self.place = place
        self._dom0 = dom0
        self._settings = settings

    @property
    def address(self) -> str:
        """Its address on the data bridge."""
        return str(self.place.data.ip)

    def create(self, settings: str = "", timeout: float = _BOOT_SECONDS) -> None:
        """Start it and wait until it answers; `settings` are more lines for xl (xl.cfg(5))."""
        self.start(settings)
        self.wait_until_up(timeout)

    def start(self, settings: str = "") -> None:
        """Start it without waiting for its user space."""
        path = f"/etc/xen/{self.name}.cfg"
        lines = _guest_configuration(self.name, self.place) + self._settings + settings
        self._dom0.put(lines.encode(), path)
        self._dom0.run(["xl", "create", "-q", path], _XL_SECONDS)

    def wait_until_up(self, timeout: float = _BOOT_SECONDS) -> None:
        """Wait until it runs programs. Raises LabError with its console's tail."""
        deadline = time.monotonic() + timeout
        while not self.answers():
            if time.monotonic() > deadline:
                raise LabError(f"{self.name} does not come up:\n{_tail(self.console())}")
            time.sleep(0.2)

    def domid(self) -> int:
        """Its present domain id. Raises LabError if it does not live."""
        return int(self._dom0.run(["xl", "domid", self.name]).stdout)

    def vif(self) -> str:
        """The data bridge's interface that leads to it; as `destroy` and `reboot` change it."""
        return f"vif{self.domid()}.0"

    def destroy(self) -> None:
        """End it at once, as a crash would."""
        self._dom0.run(["xl", "destroy", self.name], _XL_SECONDS)

    def pause(self) -> None:
        """Stop its virtual CPU; nobody is told."""
        self._dom0.run(["xl", "pause", self.name])

    def unpause(self) -> None:
        """Go on after `pause`."""
        self._dom0.run(["xl", "unpause", self.name])

    def save(self) -> None:
        """Save it to a file in dom0; it lives no more until `restore`."""
        self._dom0.run(["xl", "save", self.name, self._saved], _XL_SECONDS)

    def restore(self) -> None:
        """Go on from where `save` left it, under a new domid, and wait until it answers."""
        self._dom0.run(["xl", "restore", self._saved], _XL_SECONDS)
        self._dom0.run(["rm", self._saved])
        self.wait_until_up()

    def reboot(self, timeout: float = _BOOT_SECONDS) -> None:
        """Reboot it from the inside and wait until it is up again, under a new domid."""
        before = self.domid()
        with self.popen(["sh", "-c", "echo b >/proc/sysrq-trigger"]):
            wait_until(lambda: self._lives_anew(before), f"{self.name} does not reboot", timeout)
        self.wait_until_up(timeout)

    def console(self) -> str:
        """Everything its console has said, in all its lives."""
        return self._dom0.get(f"/var/log/xen/console/guest-{self.name}.log").decode(
            errors="replace"
        )

    @property
    def _saved(self) -> str:
        return f"/tmp/{self.name}.save"

    def _lives_anew(self, before: int) -> bool:
        done = self._dom0.run(["xl", "domid", self.name], check=False)
        return done.status == 0 and int(done.stdout) != before


class XenLab:
    """A booted Xen with dom0 and the guests of `GUESTS`, for the time of a `with` block.

    `systemd`: dom0 starts Xen's daemons as Debian does, with systemd, udev and xen.service.
    Otherwise a script does, and it is up sooner. `settings`: more lines for xl, of both guests.
    """

    def __init__(self, systemd: bool = False, settings: str = "") -> None:
        self._systemd = systemd
        # The ordinary laboratory in its least form: a folder and programs that end with us.
        self._here = Lab({"qemu": "127.0.0.1/8"}, Mode.LOOPBACK)
        self.port = _free_port()
        self._qemu: subprocess.Popen[str] | None = None
        self.boot_seconds = 0.0
        """From QEMU's start until both guests run programs."""
        self.dom0 = Machine("dom0", self.port)
        self._guests = {
            name: DomU(name, self.port, place, self.dom0, settings)
            for name, place in GUESTS.items()
        }

    def domU(self, name: str) -> DomU:  # Xen's own spelling
        """A guest by its name."""
        return self._guests[name]

    def console(self) -> str:
        """What hypervisor and dom0 have said."""
        path = self._here.directory / "console"
        return path.read_text(errors="replace") if path.exists() else ""

    def consoles(self) -> str:
        """The tails of all consoles that can be had, for a failure's report."""
        parts = [f"--- Xen and dom0\n{_tail(self.console())}"]
        for guest in self._guests.values():
            try:
                parts.append(f"--- {guest.name}\n{_tail(guest.console())}")
            except LabError as error:
                parts.append(f"--- {guest.name}: {error}")
        return "\n".join(parts)

    def __enter__(self) -> XenLab:
        require_tools({"qemu-system-x86_64": "qemu-system-x86"})
        self._here.__enter__()
        try:
            self._boot(self._here.hosts[0])
        except BaseException as error:
            try:
                if isinstance(error, LabError):
                    raise LabError(f"{error}\n{self.consoles()}") from None
                raise
            finally:
                self._end()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        try:
            if error is not None and isinstance(error, Exception):
                say(f"failed; the consoles:\n{self.consoles()}")
        finally:
            self._end()

    def _boot(self, here: Host) -> None:
        command = self._qemu_command()
        began = time.monotonic()
        with saying("boot Xen and dom0"):
            with (self._here.directory / "qemu").open("w") as words:
                self._qemu = here.popen(command, stdout=subprocess.DEVNULL, stderr=words)
            wait_until(self._dom0_up, "dom0 does not come up", _BOOT_SECONDS)
        after = time.monotonic() - began
        with saying(f"dom0 is up after {after:.0f} s; create {', '.join(GUESTS)}"):
            for guest in self._guests.values():
                guest.start()
            for guest in self._guests.values():
                guest.wait_until_up()
        self.boot_seconds = time.monotonic() - began
        say(f"all up after {self.boot_seconds:.0f} s")

    def _qemu_command(self) -> list[str]:
        made = images()
        layer = make_layer(self._here.directory)
        dom0 = f"{made.kernel} {DOM0_PLACE.kernel_arguments('dom0')}"
        if self._systemd:
            dom0 += " net.ifnames=0 ivc.init=systemd"
        drive = "if=virtio,format=raw,readonly=on,file.locking=off"
        forward = f"hostfwd=tcp:127.0.0.1:{self.port}-:{_SERVER_PORT}"
        command = ["env", "-C", str(made.folder), "qemu-system-x86_64", "-nodefaults", "-no-reboot"]
        command += ["-accel", "tcg,thread=multi", "-cpu", _CPU, "-smp", "2"]
        command += ["-m", str(_MEMORY_MIB), "-display", "none", "-monitor", "none"]
        command += ["-serial", f"file:{self._here.directory / 'console'}"]
        command += ["-kernel", made.xen, "-append", _XEN, "-initrd", f"{dom0},{made.initramfs}"]
        command += ["-drive", f"file={made.root},{drive}", "-drive", f"file={layer},{drive}"]
        return [*command, "-nic", f"user,model=virtio-net-pci,restrict=on,{forward}"]

    def _dom0_up(self) -> bool:
        assert self._qemu is not None
        if self._qemu.poll() is not None:
            words = (self._here.directory / "qemu").read_text().strip()
            raise LabError(f"QEMU has ended ({self._qemu.returncode}): {words}")
        return self.dom0.answers()

    def _end(self) -> None:
        try:
            if self._qemu is not None:
                stop(self._qemu)
        finally:
            self._here.__exit__(None, None, None)


def wait_until(true: Callable[[], bool], complaint: str, timeout: float) -> None:
    """Ask again and again. Raises LabError with the complaint after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not true():
        if time.monotonic() > deadline:
            raise LabError(f"{complaint} within {timeout:.0f} s")
        time.sleep(0.2)


def _guest_configuration(name: str, place: Place) -> str:
    disks = [
        f"format=raw,vdev=xvd{letter},access=ro,script=/opt/ivc/lab/hotplug_block.sh,"
        f"target=/dev/vd{letter}"
        for letter in "ab"
    ]
    # Without mac= every life has another one, and who knew the last one's sends into the void.
    vifs = [
        f"bridge={bridge},mac={_mac(on)},script=/opt/ivc/lab/hotplug_vif.sh"
        for bridge, on in zip(BRIDGES, (place.data, place.control), strict=True)
    ]
    return f"""\
name = "{name}"
kernel = "/boot/vmlinuz"
ramdisk = "/boot/initramfs"
extra = "{place.kernel_arguments(name)}"
memory = {_GUEST_MEMORY_MIB}
vcpus = 1
cpus = "{place.cpu}"
disk = {disks}
vif = {vifs}
on_reboot = "restart"
on_crash = "destroy"
"""


def _mac(on: IPv4Interface) -> str:
    """Xen's own range, then the last three bytes of the IPv4 address."""
    return "00:16:3e:" + on.ip.packed[1:].hex(":")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _tail(text: str) -> str:
    return "\n".join(text.splitlines()[-_TAIL_LINES:])
