"""Built-in optimizers, one file each."""
