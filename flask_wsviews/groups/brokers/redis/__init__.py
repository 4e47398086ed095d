"""The broker for several machines: streams, and a channel for each group, in Redis."""
