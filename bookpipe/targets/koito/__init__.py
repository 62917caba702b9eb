"""Koito as a target: its SQLite file (Koito 0.2 and later) or its PostgreSQL database (Koito 0.1)."""
