"""Collections on disk, read into canonical Arrow batches. A source never sees a target."""
