"""What must hold before a latency may exist: the output is right, has the right form, and came from the right kernels.

Inputs, outputs and a call come in; errors against a reference, what the call ran, and the reasons against it go out.
May import the base modules, `hardware`, `workloads` and `backends`, and not `timing`.
"""
