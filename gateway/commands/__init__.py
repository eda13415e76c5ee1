"""The commands of ``image-gateway``, one file per group."""
