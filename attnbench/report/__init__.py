"""What a reader sees: text from a stored run, and from nothing else.

`Record`s and `Verdict`s come in; lines for the terminal, Markdown and lists go out. May import the base modules,
`storage` and `verdicts`. Imports neither torch nor pytest.
"""
