"""Follow the KV events that an engine publishes, and keep count of what its cache holds."""
