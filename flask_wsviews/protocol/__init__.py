"""RFC 6455 without I/O: the opening handshake, frames, messages, the closing handshake."""
