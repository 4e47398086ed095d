"""The object that hooks get as ``ws``: one class for each kind of engine."""
