"""The device that runs the kernels: which one it is, how fast its clock runs, and who else uses it.

A device type such as "cuda" comes in; an `OpenDevice` with its facts, clock readings and other users' processes go out.
May import the base modules and nothing else; torch and NVML only inside functions.
"""
