# SPDX-License-Identifier: Apache-2.0
"""`ivc trace`: every message on rings, and what became of it."""

import argparse
import math
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING, Final

from ivc.commands import HELP, Subparsers
from ivc.controller.client import read_plan
from ivc.controller.commands import add_run_dir
from ivc.errors import IvcError
from ivc.network.files import display
from ivc.shm.layout import TRACE_ORDER_MAX, TRACE_ORDER_MIN

if TYPE_CHECKING:
    from ivc.observe.trace_filter import Filter
    from ivc.observe.trace_names import Names
    from ivc.observe.trace_session import Sink
    from ivc.observe.trace_source import TraceSource

_IDLE_S: Final = 0.002
_NICENESS: Final = -15
_ORDER: Final = 23  # 8 MiB
_SNAP: Final = 65535


def add_commands(subparsers: Subparsers) -> None:
    """Add `trace`."""
    parser = subparsers.add_parser(
        "trace",
        help=HELP["trace"],
        description="Trace what programs under the wrapper send by rings, and what becomes of it, "
        "until interrupted. Exit code 1: cannot be traced, or somebody "
        "does already; 5: no controller runs.",
    )
    parser.add_argument(
        "-w",
        "--write",
        metavar="FILE",
        help="a pcapng file for Wireshark; - is standard output: ivc trace -w - | tshark -i -",
    )
    parser.add_argument(
        "-o",
        "--output-format",
        choices=("compact", "json", "summary", "summary-json"),
        help="without -w: a line for each message (default), a JSON object for each datagram, or "
        "at the end how many there were of each service and method, and how long they took",
    )
    parser.add_argument(
        "--for",
        dest="seconds",
        type=_seconds,
        metavar="SECONDS",
        default=math.inf,
        help="end after so long",
    )
    parser.add_argument(
        "-f",
        "--filter",
        action="append",
        default=[],
        metavar="FILTER",
        help="only these: 'node=hmi service=0x1234 path=relay verdict=denied'; keys node, from, "
        "to, service, method, client, type, protocol, path, verdict; several -f: any of them",
    )
    parser.add_argument("--node", metavar="N", help="the same as node=N beside every filter")
    parser.add_argument(
        "--all",
        action="store_true",
        help="also what traced programs send by the kernel's network",
    )
    parser.add_argument(
        "-s", "--snaplen", type=_snap, default=_SNAP, metavar="N", help="bytes kept of a message"
    )
    parser.add_argument(
        "--buffer",
        type=_order,
        default=_ORDER,
        metavar="MIB",
        help="of each process's trace ring (default 8); what finds no room in it is counted",
    )
    parser.add_argument(
        "--wireshark-profile",
        type=Path,
        metavar="DIR",
        help="write a profile for Wireshark there, with the ports and names of the running "
        "controller's plan, and end; used with tshark -C or Wireshark's profiles",
    )
    add_run_dir(parser)
    parser.set_defaults(run=_trace)


def _trace(arguments: argparse.Namespace) -> int:
    from ivc.observe.trace_filter import FilterError, read_filter  # what no other command needs
    from ivc.observe.trace_names import Names
    from ivc.observe.trace_source import TraceSource
    from ivc.observe.wireshark import write_profile

    if arguments.write is not None and arguments.output_format is not None:
        raise FilterError("-o: found beside -w, expected one of them: a file is always pcapng")
    plan = read_plan(arguments.run_dir)["plan"]
    if arguments.wireshark_profile is not None:
        write_profile(arguments.wireshark_profile, plan)
        return 0
    names = Names.of(plan)
    own = f"node={arguments.node} " if arguments.node is not None else ""
    texts = [own + text for text in arguments.filter or ([""] if own else [])]
    filters = [read_filter(text, list(names.nodes.values())) for text in texts]
    with suppress(OSError):  # what is read too late is lost: before the programs that are traced
        os.setpriority(os.PRIO_PROCESS, 0, _NICENESS)
    order, snap = arguments.buffer, arguments.snaplen
    with (
        _stopped(arguments.seconds) as stopped,
        closing(TraceSource(arguments.run_dir, order, snap, everything=arguments.all)) as source,
        _output(arguments.write) as output,
    ):
        _run(arguments, source, output, names, filters, stopped)
    return 0


def _run(
    arguments: argparse.Namespace,
    source: "TraceSource",
    output: IO[bytes],
    names: "Names",
    filters: "list[Filter]",
    stopped: Callable[[], bool],
) -> None:
    from ivc.observe.trace_session import Session
    from ivc.shm.trace import real_ahead

    real = real_ahead()
    try:
        session = Session(_sink(arguments, output, names, real), names, filters, real, _say)
        session.hear(source.first)
        _say(f"tracing {source.processes} processes and the relay")
        while not stopped() and not session.ended:
            if not session.turn():
                output.flush()
                select.select([source], [], [], _IDLE_S)
            session.hear(source.news())
        source.close()  # nothing more is written; what is there is still read
        records, lost = session.finish()
        output.flush()
    except BrokenPipeError:
        _drop(output)
        _say("whoever read it has gone")
        return
    except OSError as error:
        _drop(output)
        where = display(Path(output.name))
        raise IvcError(f"cannot write {where}: {error.strerror or error}") from error
    except KeyboardInterrupt:
        _drop(output)
        raise
    if session.ended:
        _say("the controller has ended")
    _say(f"{records} messages" + (f", and {lost} there was no room for" if lost else ""))


def _drop(output: IO[bytes]) -> None:
    """What is buffered goes nowhere: closing it, as exiting does, would try and wait again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())


def _sink(arguments: argparse.Namespace, output: IO[bytes], names: "Names", real: int) -> "Sink":
    from ivc.observe.trace_session import PcapngSink, TextSink
    from ivc.observe.trace_summary import SummarySink
    from ivc.observe.trace_text import Compact, Json

    kind = arguments.output_format or "compact"
    if arguments.write is not None:
        return PcapngSink(output.write, names, arguments.snaplen, real)
    if kind.startswith("summary"):
        return SummarySink(output.write, names, as_json=kind.endswith("json"))
    shown = Json if kind == "json" else Compact
    return TextSink(output.write, shown(names, real).render)


@contextmanager
def _output(written: str | None) -> Iterator[IO[bytes]]:
    """The file, or standard output. Raises `IvcError`."""
    if written in {None, "-"}:
        yield sys.stdout.buffer
        return
    path = Path(str(written))
    try:
        with path.open("wb") as output:
            yield output
    except OSError as error:
        raise IvcError(
            f"cannot write {display(path)}: {error.strerror}; name another file"
        ) from error


@contextmanager
def _stopped(seconds: float) -> Iterator[Callable[[], bool]]:
    """Whether so long has passed, or somebody has asked it to end: SIGINT and SIGTERM do, and the
    rest is written.

    Who asks again does not want the rest: nobody may be reading it.
    """
    asked: list[int] = []
    end = time.monotonic() + seconds

    def ask(number: int, _frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked) or time.monotonic() >= end
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(text: str) -> None:
    print(f"ivc trace: {text}", file=sys.stderr, flush=True)


def _snap(text: str) -> int:
    value = int(text)
    if not 1 <= value <= _SNAP:
        raise argparse.ArgumentTypeError(f"found {text}, expected 1 to {_SNAP}")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"found {text}, expected more than 0")
    return value


def _order(text: str) -> int:
    """log2 of the bytes of as many MiB, made a power of two."""
    value = int(text)
    order = 20 + max(0, value - 1).bit_length()
    if value < 1 or not TRACE_ORDER_MIN <= order <= TRACE_ORDER_MAX:
        most = 1 << TRACE_ORDER_MAX - 20
        raise argparse.ArgumentTypeError(f"found {text}, expected 1 to {most} MiB")
    return order
