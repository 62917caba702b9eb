"""Assets: nouns, one short file for each source and target."""
