"""The command `attnbench`, one module per subcommand.

Arguments come in; text and an exit code go out. May import every folder but `plugin` and `suite`, and not pytest, which it
starts as another process. Importing it loads neither torch nor numpy, so that `--help` is quick.
"""
