"""Whether a case became slower, less accurate or larger, with stated error rates.

`Record`s of this run and a `Baseline` come in; a `Verdict` goes out. The modules follow "Verdicts" in docs/method.md: a
launch (`summary`), its change (`delta`) at one clock (`memory_share`), the change's error (`error`, `noise`), the interval
(`interval`), the rule (`rule`, `decision`) and what a baseline can tell (`sensitivity`). May import the base modules and
`storage`, but neither torch nor pytest.
"""
