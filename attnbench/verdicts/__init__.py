"""Whether a case became slower, less accurate or larger, with stated error rates.

`Record`s of this run and a `Baseline` come in; a `Verdict` goes out. May import the ground and `storage`. Imports neither
torch nor pytest.
"""
