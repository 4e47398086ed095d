"""Import path of the serializer for custom brokers: its code is in brokers/wire.py."""

from .brokers.wire import decode, encode

__all__ = [
    "decode",
    "encode",
]
