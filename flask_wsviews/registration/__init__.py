"""What is checked, and derived, when a view is registered."""
