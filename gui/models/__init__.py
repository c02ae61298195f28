"""Models of lists: rows by key, changed in place, fetched page by page."""
