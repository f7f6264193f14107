"""Move entries from one pool to another, so that nothing is lost whenever it is cut short."""
