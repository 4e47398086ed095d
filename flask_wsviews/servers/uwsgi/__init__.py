"""The adapter for uWSGI, and how to start it."""
