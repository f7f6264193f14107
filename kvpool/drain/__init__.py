"""Empty segments of a Mooncake store, and notice when that hangs."""
