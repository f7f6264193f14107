"""The command line: commands, result envelope, renderers, configuration."""

__version__ = "0.1.0"
