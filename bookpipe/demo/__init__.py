"""Sample collections and servers to try bookpipe on: everything is made up, nothing is downloaded."""
