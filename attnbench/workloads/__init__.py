"""The problems that attention is measured on: a table of named shapes, and their tensors.

A name or glob comes in; `Workload`s go out, and for each of them seeded tensors in every input distribution.
May import the base modules (`attnbench.model` and its like) and nothing else; torch only inside functions.
"""
