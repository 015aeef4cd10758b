"""Arrays to and from messages."""
