# SPDX-License-Identifier: Apache-2.0
"""What a picture of a plan can be drawn as."""

from collections.abc import Callable, Mapping
from typing import Final

from ivc.observe.dot import render_dot
from ivc.observe.html import render_html
from ivc.observe.mermaid import render_mermaid
from ivc.observe.svg import render_svg
from ivc.observe.topology import Topology

RENDER: Final[Mapping[str, Callable[[Topology], str]]] = {
    "html": render_html,
    "svg": render_svg,
    "mermaid": render_mermaid,
    "dot": render_dot,
}
