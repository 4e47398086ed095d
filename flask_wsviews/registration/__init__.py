"""What happens when a view is registered: its options are collected, and its mistakes reported."""
