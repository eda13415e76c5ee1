"""Built-in backends, one file each."""
