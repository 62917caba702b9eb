"""The music archive: songs go in through its HTTP API."""
