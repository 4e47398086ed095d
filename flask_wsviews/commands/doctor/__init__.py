"""``flask ws doctor``, one module per check."""
