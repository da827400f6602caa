"""Reports: text from stored runs, and from nothing else (layer 1)."""
