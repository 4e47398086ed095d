"""Presence: which members a group has, in all workers."""
