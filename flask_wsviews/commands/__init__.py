"""The commands of ``flask ws``."""
