# SPDX-License-Identifier: Apache-2.0
"""How many examples Hypothesis tries: ``IVC_EXAMPLES``, 2,000 unless told; programs for aarch64."""

import os
from pathlib import Path

import pytest
from aarch64 import compile_for_aarch64
from hypothesis import HealthCheck, settings

import build

pytest.register_assert_rewrite("six_ways")  # tests inherit from it

settings.register_profile(
    "ivc",
    max_examples=int(os.environ.get("IVC_EXAMPLES", "2000")),
    deadline=None,  # a shared machine may stall any example
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("ivc")


@pytest.fixture(scope="session")
def aarch64_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wrapper for aarch64."""
    folder = tmp_path_factory.mktemp("aarch64")
    return compile_for_aarch64(folder / "libivcsock.so", *build.wrapper_arguments())


@pytest.fixture(scope="session")
def aarch64_calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that makes every UDP call, for aarch64."""
    source = build.ROOT / "tests" / "preload" / "udp_calls.c"
    return compile_for_aarch64(tmp_path_factory.mktemp("calls") / "calls", source, "-lpthread")
