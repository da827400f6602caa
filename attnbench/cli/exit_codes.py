"""Exit codes, the same as those of pytest where it has one for it."""

REFUSED = NOTHING_FOUND = 1
INTERRUPTED = 2
DAMAGED = 4
