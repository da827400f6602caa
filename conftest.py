"""What a project that uses attnbench writes itself: the plugin, where it is not installed, and backends of its own."""

pytest_plugins = ["attnbench.plugin", "pytester"]
