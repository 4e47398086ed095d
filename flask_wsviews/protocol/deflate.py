"""What RFC 7692 needs beyond the permessage-deflate extension of ``websockets``."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from copy import copy
from typing import Any

from websockets.exceptions import ProtocolError
from websockets.extensions import Extension


def replace_finished_inflaters(extensions: Iterable[Extension]) -> None:
    """Start a new DEFLATE stream after a block with the BFINAL bit, which RFC 7692 7.2.3.4 allows.

    zlib's stream ends with such a block: an old one would collect later messages without a bound.

    :raises ProtocolError: if data follows the block in its own message.
    """
    extension: Any  # its class has no types
    for extension in extensions:
        inflater = getattr(extension, "decoder", None)
        if inflater is None or not inflater.eof:
            continue
        if inflater.unused_data.strip(b"\0\xff"):
            raise ProtocolError("data after a final block")
        extension.decoder = zlib.decompressobj(wbits=-extension.remote_max_window_bits)


def reset_deflaters(extensions: Iterable[Extension]) -> None:
    """Start new DEFLATE streams, so that later messages don't refer to earlier ones.

    A message that another compressor has made is in the client's window, but not in ours.
    """
    extension: Any  # its class has no types
    for extension in extensions:
        if getattr(extension, "encoder", None) is not None:
            bits = extension.local_max_window_bits
            extension.encoder = zlib.compressobj(wbits=-bits, **extension.compress_settings)


def without_context(extension: Extension) -> Extension:
    """Return a copy that compresses each message alone, so that every client can inflate it."""
    fresh: Any = copy(extension)
    fresh.local_no_context_takeover = True
    made: Extension = fresh
    return made


def deflate_overhead(size: int) -> int:
    """Return how much longer deflate makes *size* bytes at worst, like zlib's deflateBound()."""
    return (size >> 3) + (size >> 6) + 64
