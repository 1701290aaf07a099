# SPDX-License-Identifier: Apache-2.0
"""libnftables, JSON in and JSON out. Its Python binding is in no registry, so it is loaded here."""

import ctypes
import json
from typing import Any, Final

from ivc.ethernet.errors import EthernetError, Missing, NotPermitted

_LIBRARY: Final = "libnftables.so.1"
_JSON: Final = 1 << 4  # NFT_CTX_OUTPUT_JSON of <nftables/libnftables.h>; also how input is read


class Nftables:
    """One context of the library: what it does is done in the network namespace it is used in."""

    def __init__(self) -> None:
        """Raises `Missing` if this machine has no libnftables."""
        self._library = _load()
        self._context = ctypes.c_void_p(self._library.nft_ctx_new(0))
        if not self._context:
            raise EthernetError("libnftables: no context; is there memory left?")
        self._library.nft_ctx_output_set_flags(self._context, _JSON)
        self._library.nft_ctx_buffer_output(self._context)
        self._library.nft_ctx_buffer_error(self._context)

    def close(self) -> None:
        """Give the context back."""
        self._library.nft_ctx_free(self._context)

    def run(self, document: dict[str, Any]) -> list[dict[str, Any]]:
        """Run a document's commands as one transaction; returns what it lists.

        Raises `NotPermitted`, and `EthernetError` with the library's own words; nothing of the
        transaction is done then.
        """
        text = json.dumps(document).encode()
        failed = self._library.nft_run_cmd_from_buffer(self._context, text)
        output: bytes = self._library.nft_ctx_get_output_buffer(self._context) or b""
        words: bytes = self._library.nft_ctx_get_error_buffer(self._context) or b""
        if failed:
            raise _error(words.decode(errors="replace"))
        listed: list[dict[str, Any]] = json.loads(output)["nftables"] if output.strip() else []
        return listed


def _load() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError:
        raise Missing(
            f"{_LIBRARY} is not on this machine; get it with: apt-get install libnftables1"
        ) from None
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    for name in ("nft_ctx_buffer_output", "nft_ctx_buffer_error", "nft_ctx_free"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
    for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
        getattr(library, name).restype = ctypes.c_char_p
    return library


def _error(words: str) -> EthernetError:
    told = " ".join(words.split()) or "no reason given"
    if "Operation not permitted" in told:
        return NotPermitted("nftables: not permitted; run it as root (CAP_NET_ADMIN)")
    if "Operation not supported" in told:
        return Missing(
            f"nftables: {told}; the kernel needs nftables for bridges (CONFIG_NF_TABLES_BRIDGE)"
        )
    return EthernetError(f"nftables: {told}")
