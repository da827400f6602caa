"""The attention kernels: what each needs, how it is loaded and compiled, and how far its output may be off.

Registrations come in, from this package, a conftest.py or an entry point; `Backend`s and, with a compile mode,
`Variant`s go out, with the reasons why one cannot run here. `families` registers those of this package. May import the
base modules, `hardware` and `workloads`; a kernel's library only inside functions.
"""
