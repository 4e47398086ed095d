"""Who is in a group, across workers."""
