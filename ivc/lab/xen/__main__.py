# SPDX-License-Identifier: Apache-2.0
"""`python -m ivc.lab.xen`: boot the laboratory, run a scenario or a command, end it."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence

from ivc.errors import IvcError
from ivc.lab.hosts import ended_by_signals
from ivc.lab.xen.cache import say
from ivc.lab.xen.image import images
from ivc.lab.xen.lab import XenLab
from ivc.lab.xen.options import DESCRIPTION, add_options
from ivc.lab.xen.results import as_json, as_table
from ivc.lab.xen.scenario import Settings, show


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; returns the exit status."""
    parser = argparse.ArgumentParser(prog="build.py xen", description=DESCRIPTION)
    add_options(parser)
    return run(parser.parse_args(arguments))


def run(options: argparse.Namespace) -> int:
    """Run what the options say; returns the exit status."""
    try:
        with ended_by_signals():
            return _run(options)
    except KeyboardInterrupt:
        say("interrupted; everything is removed")
        return 130
    except IvcError as error:
        say(f"error: {error}")
        return 1


def _run(options: argparse.Namespace) -> int:
    if options.images:
        say(f"in {images().folder}")
        return 0
    with XenLab(options.systemd, 'type = "pvh"\n' if options.pvh else "") as lab:
        if options.command:
            return _run_command(lab, options)
        if options.stay:
            say(f"command server on 127.0.0.1:{lab.port}; Ctrl-C ends it")
            signal.pause()
        return _show(lab, Settings(options.paths, options.rounds, options.calls), options.json)


def _run_command(lab: XenLab, options: argparse.Namespace) -> int:
    machine = lab.dom0 if options.machine == "dom0" else lab.domU(options.machine)
    with machine.popen(options.command) as process:
        done = process.wait()
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    return done.status if done.status >= 0 else 128 - done.status


def _show(lab: XenLab, settings: Settings, as_object: bool) -> int:
    runs = show(lab, settings)
    print(json.dumps(as_json(runs)) if as_object else as_table(runs), flush=True)
    if all(run.good for run in runs):
        return 0
    say("not good: expected nothing lost or spoiled, and what IVC carries not on the vif")
    say(f"the consoles:\n{lab.consoles()}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
