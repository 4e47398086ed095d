"""Public import path of the encoding for custom brokers, which is in brokers/wire.py."""

from .brokers.wire import decode, encode

__all__ = [
    "decode",
    "encode",
]
