"""`--attn-report=DIR`: this run as a page, plots and files for other tools."""

from __future__ import annotations

from pathlib import Path

from attnbench import printable
from attnbench.model import RunFile


def write_report(run: RunFile, folder: Path) -> list[str]:
    """Write the report and return lines for the terminal. Never raises: a report that fails does not fail the run."""
    from attnbench.backends.registry import all_backends
    from attnbench.report.bundle import PAGE, rendered, write
    from attnbench.report.gather import gathered_from

    try:
        descriptions = {backend.name: backend.description for backend in all_backends().values()}
        files, sentences = rendered(gathered_from(run), descriptions=descriptions)
        write(folder, files)
    except OSError as exc:
        return [printable.message(f"no report: {folder} cannot be written to: {exc.strerror or exc}")]
    except Exception as exc:
        return [printable.message(f"no report: {type(exc).__name__}: {exc}")]
    return [*sentences, f"report: {folder / (PAGE if PAGE in files else '')}"]
