"""Records in files: what pytest-benchmark stores, and reviewed sessions, from the work tree or from a commit.

Files come in and `RunFile`s, `Session`s and a `Baseline` go out, and the reverse. May import only the base modules, and
neither torch nor pytest.
"""
