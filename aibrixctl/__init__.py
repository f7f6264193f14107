"""The command line: commands, result envelope, renderers, configuration."""
