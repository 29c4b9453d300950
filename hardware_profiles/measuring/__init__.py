"""Taking figures: the protocol, the process that times, sessions, and what they say."""
