"""What flows through bookpipe: schemas, outcomes, counts and errors. Standard library and pyarrow only."""
