"""Servers: what they have, and a plan written into them. A target never sees a source."""
