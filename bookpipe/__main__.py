"""`python -m bookpipe`."""

from bookpipe.cli import main

main()
