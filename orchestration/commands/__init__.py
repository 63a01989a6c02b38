"""The command line's groups, one module each; every rule lives in the rooms below."""
