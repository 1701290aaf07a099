# SPDX-License-Identifier: Apache-2.0
"""What commands that read a configuration and a mapping are given on the command line."""

import argparse
from pathlib import Path


def add_files(
    parser: argparse.ArgumentParser,
    *,
    mapping: str = "which node runs where (TOML, JSON)",
    configs: str = "+",
    mapping_required: bool = True,
) -> None:
    """Add CONFIG, as many as `configs` (argparse's `nargs`), and --mapping with its help."""
    parser.add_argument(
        "config",
        nargs=configs,
        type=Path,
        metavar="CONFIG",
        help="vsomeip JSON, ARXML, network file",
    )
    parser.add_argument(
        "--mapping", required=mapping_required, type=Path, metavar="M", help=mapping
    )
