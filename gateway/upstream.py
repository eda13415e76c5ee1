"""What a backend plugin needs to talk HTTP well."""
