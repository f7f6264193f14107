"""One module per subcommand: plain functions that take typed arguments and return a Result."""
