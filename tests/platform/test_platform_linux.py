# SPDX-License-Identifier: Apache-2.0
"""The Linux platform: sealed memory, doorbells, and who is who."""

import mmap
import os
import resource
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from ivc.network import External, LocalHost, XenDomain
from ivc.platform import NOTHING, Attachment, PlatformError, RegionSpec
from ivc.platform.linux import LinuxPlatform
from ivc.platform.memfd import Memfd, MemfdRegion
from ivc.shm.bell import Bell
from ivc.shm.layout import Role
from ivc.shm.region import Flow, receiver_page

SIZE = 8192


@pytest.fixture
def region() -> Iterator[Memfd]:
    made = Memfd("ivc-test", SIZE, b"head")
    yield made
    made.close()


@pytest.fixture
def netns() -> Iterator[str]:
    """A network namespace of our own."""
    name = f"ivcd-{uuid.uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    yield name
    subprocess.run(["ip", "netns", "delete", name], check=True)


def test_a_region_starts_with_its_head_and_is_zero_after_it(region: Memfd) -> None:
    assert os.pread(region.fileno(), SIZE, 0) == b"head".ljust(SIZE, b"\0")


def test_size_is_fixed_before_anybody_has_it(region: Memfd) -> None:
    for size in (0, 2 * SIZE):
        with pytest.raises(PermissionError):
            os.ftruncate(region.fileno(), size)


def test_its_memory_is_there_from_the_start(region: Memfd) -> None:
    assert os.fstat(region.fileno()).st_blocks * 512 == SIZE


def test_the_owner_who_mapped_before_the_seal_still_writes(region: Memfd) -> None:
    with mmap.mmap(region.fileno(), SIZE) as owner:
        region.seal()
        owner[0:4] = b"mine"
        assert os.pread(region.fileno(), 4, 0) == b"mine"


def test_after_the_seal_nobody_else_can_write(region: Memfd) -> None:
    region.seal()
    with pytest.raises(PermissionError):
        mmap.mmap(region.fileno(), SIZE)
    with pytest.raises(PermissionError):
        os.pwrite(region.fileno(), b"x", 0)


def test_a_region_sealed_by_its_owner_is_noticed(region: Memfd) -> None:
    region.seal()
    with pytest.raises(PlatformError):
        region.seal()


def test_the_read_only_view_shows_the_same_memory(region: Memfd) -> None:
    fd = region.read_only()
    with mmap.mmap(fd, SIZE, prot=mmap.PROT_READ) as view:
        assert view[:4] == b"head"
    with pytest.raises(OSError):
        os.write(fd, b"x")


def test_no_descriptor_left_is_an_error_of_the_platform() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        with pytest.raises(PlatformError):
            Memfd("ivc-test", SIZE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_head_that_does_not_fit_leaves_no_descriptor_behind() -> None:
    before = sorted(Path("/proc/self/fd").iterdir())
    with pytest.raises(PlatformError):
        Memfd("ivc-test", 0, b"head")
    assert sorted(Path("/proc/self/fd").iterdir()) == before


def test_closing_twice_is_closing_once(region: Memfd) -> None:
    region.read_only()
    region.map(writable=True)
    region.close()
    region.close()
    assert region.fileno() == -1


FLOW = Flow(1, 2, 13)


@pytest.fixture
def bell() -> Iterator[Bell]:
    """The doorbell of a receiving socket."""
    made = Bell()
    yield made
    made.close()


def ring_region(owner: int | None, bell: Bell) -> MemfdRegion:
    """A receiver's region; `owner` None: the controller's."""
    spec = RegionSpec(FLOW, Role.RECEIVER, owner, 7, Attachment((bell.fileno(),)))
    return LinuxPlatform().create_region(spec)


def test_a_regions_first_page_tells_what_it_is(bell: Bell) -> None:
    region = ring_region(None, bell)
    assert bytes(region.map()) == receiver_page(FLOW)
    region.close()


def test_a_region_mapped_here_by_its_owner_is_sealed(bell: Bell) -> None:
    region = ring_region(None, bell)
    region.map()
    with pytest.raises(PermissionError):
        mmap.mmap(region.for_owner().fds[0], mmap.PAGESIZE)
    region.close()


def test_the_peers_region_is_mapped_read_only(bell: Bell) -> None:
    region = ring_region(3, bell)
    with pytest.raises(TypeError):
        region.map()[0] = 1
    region.close()


@pytest.mark.parametrize("owner", [None, 3])
def test_the_sender_gets_the_bell_the_receiver_hears(owner: int | None, bell: Bell) -> None:
    region = ring_region(owner, bell)
    heard = region.bell() if owner is None else bell
    Bell(region.for_peer().fds[1]).ring()
    assert heard.consume()
    region.close()


@pytest.mark.parametrize("owner", [None, 3])
def test_nothing_of_a_region_is_left_when_it_is_closed(owner: int | None, bell: Bell) -> None:
    before = sorted(Path("/proc/self/fd").iterdir())
    region = ring_region(owner, bell)
    region.for_peer()
    region.map()
    region.bell()
    region.close()
    region.close()
    assert sorted(Path("/proc/self/fd").iterdir()) == before


def test_only_an_eventfd_is_a_doorbell() -> None:
    bell = os.eventfd(0)
    reader, writer = os.pipe()
    LinuxPlatform().check_doorbell(Attachment((bell,)))
    wrong = [Attachment((fd,)) for fd in (reader, writer, 10**6)]
    for attachment in (*wrong, NOTHING, Attachment((bell, bell))):
        with pytest.raises(PlatformError):
            LinuxPlatform().check_doorbell(attachment)
    for fd in (bell, reader, writer):
        os.close(fd)


def test_a_doorbell_does_not_block_whoever_rings_it() -> None:
    bell = os.eventfd(0, 0)
    assert os.get_blocking(bell)
    LinuxPlatform().check_doorbell(Attachment((bell,)))
    assert not os.get_blocking(bell)
    os.close(bell)


def test_a_duplicate_outlives_what_it_was_made_of() -> None:
    reader, writer = os.pipe()
    made = Attachment((writer,), (1, 2))
    copy = made.duplicate()
    made.close()
    os.write(copy.fds[0], b"x")
    assert (os.read(reader, 1), copy.words) == (b"x", (1, 2))
    copy.close()
    os.close(reader)


def test_a_match_table_is_replaced_as_a_whole(tmp_path: Path) -> None:
    platform = LinuxPlatform()
    platform.listen(tmp_path)
    platform.publish(b"old", ())
    with (tmp_path / "match").open("rb") as reader:
        platform.publish(b"new", ())
        assert (reader.read(), (tmp_path / "match").read_bytes()) == (b"old", b"new")
    platform.close()
    assert not list(tmp_path.iterdir())


def test_local_is_our_own_namespace() -> None:
    assert LinuxPlatform().resolve(LocalHost(None)) == Path("/proc/self/ns/net").stat().st_ino


def test_a_named_namespace_is_its_inode(netns: str) -> None:
    inode = LinuxPlatform().resolve(LocalHost(netns))
    assert inode == Path(f"/run/netns/{netns}").stat().st_ino
    assert inode != LinuxPlatform().resolve(LocalHost(None))


@pytest.mark.parametrize("domain", [LocalHost("ivcd-is-not-there"), XenDomain("x"), External()])
def test_what_is_not_here_has_no_host(domain: LocalHost | XenDomain | External) -> None:
    assert LinuxPlatform().resolve(domain) is None


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.bind(str(tmp_path / "s"))
        sock.listen()
        yield sock


CONNECT = """
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.connect(sys.argv[1])
sys.stdin.read()
"""


def start_peer(listener: socket.socket, *prefix: str) -> subprocess.Popen[bytes]:
    """A process that connects and lives until its input ends."""
    return subprocess.Popen(
        [*prefix, sys.executable, "-c", CONNECT, listener.getsockname()], stdin=subprocess.PIPE
    )


def test_a_peer_is_the_process_and_namespace_the_kernel_says(
    listener: socket.socket, netns: str
) -> None:
    with start_peer(listener, "ip", "netns", "exec", netns) as peer:
        connection, _ = listener.accept()
        identity = LinuxPlatform().identify(connection)
        peer.communicate()
        connection.close()
    assert identity.pid == peer.pid
    assert identity.host == LinuxPlatform().resolve(LocalHost(netns))
    assert identity.command.startswith("python")


def test_a_dead_peer_has_no_identity(listener: socket.socket) -> None:
    with start_peer(listener) as peer:
        connection, _ = listener.accept()
        peer.communicate()
    with pytest.raises(PlatformError):
        LinuxPlatform().identify(connection)
    connection.close()


def test_a_peer_that_died_but_is_not_reaped_has_no_identity(listener: socket.socket) -> None:
    peer = start_peer(listener)
    connection, _ = listener.accept()
    peer.kill()
    os.waitid(os.P_PID, peer.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(PlatformError):
        LinuxPlatform().identify(connection)
    assert peer.stdin is not None
    peer.stdin.close()
    peer.wait()
    connection.close()
