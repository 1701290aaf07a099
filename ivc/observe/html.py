# SPDX-License-Identifier: Apache-2.0
"""A picture of a plan as one HTML file: the SVG, and a script to point at nodes with.

The page fetches nothing and may not: its policy allows its scripts, by their hash, and no other,
should anything of the user's files ever get past the escaping. A live page asks who serves it for
what runs, and nobody else.
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
#live { position: fixed; top: 46px; right: 12px; margin: 0; font: 13px system-ui, sans-serif;
  color: #1f2933; background: #ffffffcc; }
"""


def render_html(picture: Topology, *, live: bool = False) -> str:
    """The page. Same topology, same bytes."""
    scripts = [_script(name) for name in ("page.js", *(["live.js"] if live else []))]
    allowed = " ".join(map(_digest, scripts))
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src {allowed}"
    if live:
        policy += "; connect-src 'self'"
    return (
        "<!DOCTYPE html>\n"
        '<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>IVC plan</title><style>{_STYLE}</style></head><body>\n"
        f"{render_svg(picture)}"
        '<input id="find" type="search" placeholder="find node, address, service">\n'
        f"{_LIVE if live else ''}"
        '<pre id="told" hidden></pre>\n'
        f"{''.join(f'<script>{script}</script>' for script in scripts)}\n"
        "</body></html>\n"
    )


_LIVE: Final = '<p id="live"></p>\n'


def _script(name: str) -> str:
    return resources.files("ivc.observe").joinpath(name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
