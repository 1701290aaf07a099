# SPDX-License-Identifier: Apache-2.0
"""A picture of a plan as one HTML file: the SVG, and a script to point at nodes with.

The page fetches nothing and may not: its policy allows this one script, by its hash, and no other,
should anything of the user's files ever get past the escaping.
"""

import base64
import hashlib
from importlib import resources
from typing import Final

from ivc.observe.svg import render_svg
from ivc.observe.topology import Topology

_STYLE: Final = """
body { margin: 0; background: #ffffff; }
svg { display: block; max-width: 100%; height: auto; margin: 0 auto; }
#find { position: fixed; top: 12px; right: 12px; width: 220px; padding: 5px 9px;
  font: 13px system-ui, sans-serif; border: 1px solid #b9c3cd; border-radius: 6px; }
#told { position: fixed; right: 12px; bottom: 12px; max-width: 380px; max-height: 50vh; margin: 0;
  overflow: auto; pointer-events: none; padding: 10px 14px; white-space: pre-wrap;
  font: 12px system-ui, sans-serif;
  background: #ffffff; color: #1f2933; border: 1px solid #b9c3cd; border-radius: 8px;
  box-shadow: 0 2px 10px #00000026; }
#told.kept { pointer-events: auto; }
#told.left { right: auto; left: 12px; }
.node, .legend { cursor: pointer; }
.pointing .way:not(.on), .pointing .told:not(.on) { opacity: 0.06; }
.pointing .way.on { stroke-opacity: 1; stroke-width: 2.2; }
.pointing .node:not(.on) { opacity: 0.35; }
.node:hover .card { stroke: #1f2933; }
.node.found .card { fill: #fff3bf; stroke: #b08900; }
.way.off, .told.off { display: none; }
.legend.off { opacity: 0.35; }
"""


def render_html(picture: Topology) -> str:
    """The page. Same topology, same bytes."""
    script = resources.files("ivc.observe").joinpath("page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return (
        "<!DOCTYPE html>\n"
        '<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>IVC plan</title><style>{_STYLE}</style></head><body>\n"
        f"{render_svg(picture)}"
        '<input id="find" type="search" placeholder="find node, address, service">\n'
        '<pre id="told" hidden></pre>\n'
        f"<script>{script}</script>\n"
        "</body></html>\n"
    )
