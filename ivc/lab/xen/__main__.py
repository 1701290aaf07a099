# SPDX-License-Identifier: Apache-2.0
"""`python -m ivc.lab.xen`: boot the laboratory, show that its guests talk, end it.

With a command, `python -m ivc.lab.xen [--in MACHINE] [--] COMMAND...`, runs that
in dom0 or a domU instead and ends with its status. `--stay` keeps the machines
until Ctrl-C and says how to reach them. `--images` only fills the cache.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from ivc.errors import IvcError
from ivc.lab.hosts import ended_by_signals
from ivc.lab.xen.cache import say
from ivc.lab.xen.image import images
from ivc.lab.xen.lab import GUESTS, XenLab


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; returns the exit status."""
    options = _options(arguments)
    try:
        with ended_by_signals():
            return _run(options)
    except KeyboardInterrupt:
        say("interrupted; everything is removed")
        return 130
    except IvcError as error:
        say(f"error: {error}")
        return 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="build.py xen", description=__doc__)
    parser.add_argument("--images", action="store_true", help="only make what boots start from")
    parser.add_argument("--stay", action="store_true", help="keep it running until Ctrl-C")
    parser.add_argument("--systemd", action="store_true", help="systemd in dom0")
    parser.add_argument("--in", dest="machine", choices=["dom0", *GUESTS], default="dom0")
    parser.add_argument("command", nargs="*", help="what to run instead of the showing")
    return parser.parse_args(arguments)


def _run(options: argparse.Namespace) -> int:
    if options.images:
        say(f"in {images().folder}")
        return 0
    with XenLab(options.systemd) as lab:
        if options.command:
            return _run_command(lab, options)
        _show(lab)
        if options.stay:
            say(f"command server on 127.0.0.1:{lab.port}; Ctrl-C ends it")
            signal.pause()
    return 0


def _run_command(lab: XenLab, options: argparse.Namespace) -> int:
    machine = lab.dom0 if options.machine == "dom0" else lab.domU(options.machine)
    with machine.popen(options.command) as process:
        done = process.wait()
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    return done.status if done.status >= 0 else 128 - done.status


def _show(lab: XenLab) -> None:
    print(lab.dom0.shell("xl list"))
    names = list(GUESTS)
    for here, there in (names, names[::-1]):
        address = lab.domU(there).address
        print(lab.domU(here).shell(f"busybox ping -c 3 -i 0.2 {address} | tail -n 2"))


if __name__ == "__main__":
    sys.exit(main())
