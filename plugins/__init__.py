"""The built-in plugins, installed as `gateway_plugins`; they use nothing that a stranger could not."""
