"""Commands of attnbench that run without pytest's own command line, one module each.

Arguments come in; an exit code goes out. May import every folder but `plugin` and `suite`, and not pytest, which it
starts as another process.
"""
