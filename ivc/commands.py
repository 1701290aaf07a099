# SPDX-License-Identifier: Apache-2.0
"""The commands of `ivc`: names, what they are for, and the module that knows the rest.

Only the module of the command that was given is imported: all of them take a third of a second, and
seconds in an emulated dom0. Its `add_commands(subparsers)` adds a parser for each of its commands,
with the help that stands here, and sets `run` to a function that takes the parsed arguments and
returns the exit code.
"""

import argparse
from dataclasses import dataclass
from typing import Final, TypeAlias

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


@dataclass(frozen=True, slots=True)
class Command:
    """One of them."""

    name: str
    module: str
    help: str


COMMANDS: Final = (
    Command("check", "ivc.plan_commands", "look for slips in configuration and mapping"),
    Command("plan", "ivc.plan_commands", "show what would be built; touches nothing"),
    Command("lab", "ivc.lab.commands", "virtual machines to try it on"),
    Command(
        "graph",
        "ivc.observe.graph_command",
        "draw the plan: domains, nodes, services, and the paths between them",
    ),
    Command(
        "import",
        "ivc.network.commands",
        "write what was understood of a configuration as one network file",
    ),
    Command(
        "schema",
        "ivc.network.commands",
        "print the JSON Schema of the mapping or the network file",
    ),
    Command(
        "controller",
        "ivc.controller.controller_command",
        "plan, build rings, and join programs by them",
    ),
    Command(
        "status",
        "ivc.controller.commands",
        "show nodes, processes, sockets, services and flows of a running controller",
    ),
    Command(
        "reload",
        "ivc.controller.commands",
        "have a running controller read its files again",
    ),
    Command(
        "quiesce",
        "ivc.controller.commands",
        "take a domain off the rings, so that it can be saved",
    ),
    Command("unquiesce", "ivc.controller.commands", "let a domain have rings again"),
    Command("run", "ivc.controller.commands", "start a program under the wrapper"),
    Command(
        "top",
        "ivc.observe.top_command",
        "watch flows, sockets and services of a running controller on a full screen",
    ),
    Command(
        "trace",
        "ivc.observe.trace_command",
        "show or write every message on rings, as Ethernet traffic is captured",
    ),
    Command(
        "metrics",
        "ivc.observe.metrics_command",
        "a running controller's numbers as OpenMetrics, printed, served or in a file",
    ),
    Command(
        "fault",
        "ivc.controller.fault_commands",
        "drop, delay, duplicate or corrupt messages on purpose",
    ),
    Command(
        "ethernet",
        "ivc.ethernet.commands",
        "set up what external nodes need in dom0: bridge, interface, nftables",
    ),
    Command("doctor", "ivc.doctor.commands", "find out why it does not work"),
    Command(
        "completion",
        "ivc.completion_command",
        "print what makes a shell complete commands, options and file names",
    ),
)

HELP: Final = {one.name: one.help for one in COMMANDS}

EXIT_CODES: Final = """\
exit codes:
  0   done
  1   failed
  2   wrong usage
  3   network configuration or mapping is wrong; nothing was started
  4   --dry-run, plan --diff: something would change
  5   the controller is not running
  6   status --strict: something goes by the network that was not meant to
  7   check --strict: there are warnings
  69  an interface the platform should have is missing
  77  not permitted
"""
