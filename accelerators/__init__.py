"""What each GPU and NPU type is, and the plain value types that every other package shares."""
