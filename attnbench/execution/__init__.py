"""One case from its first call to its `Record`: in this process, in a fresh one, or simulated.

A draft `Record` with its `Variant` comes in; the `Record` with its status, reasons and sample goes out. May import the
base modules, `hardware`, `workloads`, `backends`, `checks` and `timing`, but neither pytest nor what is stored.
"""
