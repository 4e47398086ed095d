"""From a message to the hook that handles it: contexts, hooks, and what their errors mean."""
