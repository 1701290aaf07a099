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
from ivc.platform import PlatformError
from ivc.platform.linux import LinuxPlatform, MemfdRegion

SIZE = 8192


@pytest.fixture
def region() -> Iterator[MemfdRegion]:
    made = LinuxPlatform().create_region("ivc-test", SIZE, b"head")
    yield made
    made.close()


@pytest.fixture
def netns() -> Iterator[str]:
    """A network namespace of our own."""
    name = f"ivcd-{uuid.uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    yield name
    subprocess.run(["ip", "netns", "delete", name], check=True)


def test_a_region_starts_with_its_head_and_is_zero_after_it(region: MemfdRegion) -> None:
    assert os.pread(region.fileno(), SIZE, 0) == b"head".ljust(SIZE, b"\0")


def test_size_is_fixed_before_anybody_has_it(region: MemfdRegion) -> None:
    for size in (0, 2 * SIZE):
        with pytest.raises(PermissionError):
            os.ftruncate(region.fileno(), size)


def test_its_memory_is_there_from_the_start(region: MemfdRegion) -> None:
    assert os.fstat(region.fileno()).st_blocks * 512 == SIZE


def test_the_owner_who_mapped_before_the_seal_still_writes(region: MemfdRegion) -> None:
    with mmap.mmap(region.fileno(), SIZE) as owner:
        region.seal()
        owner[0:4] = b"mine"
        assert os.pread(region.fileno(), 4, 0) == b"mine"


def test_after_the_seal_nobody_else_can_write(region: MemfdRegion) -> None:
    region.seal()
    with pytest.raises(PermissionError):
        mmap.mmap(region.fileno(), SIZE)
    with pytest.raises(PermissionError):
        os.pwrite(region.fileno(), b"x", 0)


def test_a_region_sealed_by_its_owner_is_noticed(region: MemfdRegion) -> None:
    region.seal()
    with pytest.raises(PlatformError):
        region.seal()


def test_the_read_only_view_shows_the_same_memory(region: MemfdRegion) -> None:
    fd = region.read_only()
    try:
        with mmap.mmap(fd, SIZE, prot=mmap.PROT_READ) as view:
            assert view[:4] == b"head"
        with pytest.raises(OSError):
            os.write(fd, b"x")
    finally:
        os.close(fd)


def test_no_descriptor_left_is_an_error_of_the_platform() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        with pytest.raises(PlatformError):
            LinuxPlatform().create_region("ivc-test", SIZE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_head_that_does_not_fit_leaves_no_descriptor_behind() -> None:
    before = sorted(Path("/proc/self/fd").iterdir())
    with pytest.raises(PlatformError):
        LinuxPlatform().create_region("ivc-test", 0, b"head")
    assert sorted(Path("/proc/self/fd").iterdir()) == before


def test_closing_twice_is_closing_once(region: MemfdRegion) -> None:
    region.close()
    region.close()
    assert region.fileno() == -1


def test_only_an_eventfd_is_a_doorbell() -> None:
    bell = os.eventfd(0)
    reader, writer = os.pipe()
    answers = [LinuxPlatform().is_doorbell(fd) for fd in (bell, reader, writer, 10**6)]
    for fd in (bell, reader, writer):
        os.close(fd)
    assert answers == [True, False, False, False]


def test_a_doorbell_does_not_block_whoever_rings_it() -> None:
    bell = os.eventfd(0, 0)
    assert os.get_blocking(bell)
    LinuxPlatform().is_doorbell(bell)
    assert not os.get_blocking(bell)
    os.close(bell)


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
