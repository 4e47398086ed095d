"""Everything that is about uWSGI: its sockets, its loops, its command line."""
