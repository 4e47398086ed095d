"""What every layer above uses. Nothing here imports the rest of the package."""
