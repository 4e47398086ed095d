"""The Redis broker: messages go out by pub/sub, and histories are streams.

``broker`` puts the parts together. ``listener`` receives over the connections in ``link``, and
``incoming`` delivers. ``calls`` sends commands through the ``client``, and ``history`` and
``presence`` run the Lua ``scripts``. ``url`` reads the broker's URL.
"""
