"""MyBookshelf2: its PostgreSQL database and its book folder, written as the application would."""
