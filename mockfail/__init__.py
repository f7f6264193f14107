"""Break accelerators for the programs that look at them: scenarios, state, native library."""
