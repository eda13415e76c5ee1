"""Built-in middlewares, one file each."""
