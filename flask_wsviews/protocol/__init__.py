"""RFC 6455 without I/O.

The opening handshake: :mod:`.opening` checks the request, :mod:`.origin` the page that sent it, and
:mod:`.response` makes the answer. Everything after it: :mod:`.connection`. It gets messages from
:mod:`.assembler`, or :mod:`.plain_frames` as a shortcut; both read headers with :mod:`.frames`.
"""
