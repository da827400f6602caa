"""Seconds and cycles of a call: wait until the clock is settled, pace the rounds, read the timers.

A call on the device comes in; a `Sample` goes out. An injected slow-down is part of the timed call. May import the
base modules, `hardware`, `workloads` and `backends`, and not `checks`.
"""
