"""Built-in storages, one file each."""
