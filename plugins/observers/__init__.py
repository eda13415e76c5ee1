"""Built-in observers, one file each."""
