"""`scripts/record_baseline`: a session of several launches, checked and written as one file (layer 4)."""

from __future__ import annotations

import argparse
import math
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from attnbench.baseline import load_document
from attnbench.early_stop import STOPPED
from attnbench.model import RunFile
from attnbench.occupancy import disturbances, look
from attnbench.readings import Reading, reading
from attnbench.records import Unreadable, run_from
from attnbench.sessions import FEWEST_LAUNCHES, once, refusals, session_path, write_session

DEFAULT_LAUNCHES = 3
#: Launches of one case further apart than this are named, for whoever reviews the session.
WIDE = 0.005


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, check, write. Exit code: 0 written, 1 refused, 2 wrong usage, else pytest's own."""
    parser = argparse.ArgumentParser(
        prog="scripts/record_baseline",
        description="Measure every case in several fresh processes and store them as one reviewed session, "
        "FOLDER/<gpu>/NNNN_<id>.json. Other arguments go to pytest.",
    )
    parser.add_argument("--launches", type=int, default=DEFAULT_LAUNCHES, metavar="N", help="fresh processes (3)")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first case that is refused")
    parser.add_argument("--into", type=Path, default=Path("baselines"), metavar="FOLDER", help="baselines")
    options, pytest_arguments = parser.parse_known_args(arguments)
    if options.launches < FEWEST_LAUNCHES:
        parser.error(
            f"--launches {options.launches}: at least {FEWEST_LAUNCHES} are needed to know how launches differ"
        )
    before = look()
    if found := disturbances(before, before):
        return _refused(found[:1])
    try:  # before minutes are spent on what could not be kept
        options.into.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=options.into).close()
    except OSError as exc:
        return _refused([f"{options.into} cannot be written to: {exc.strerror}"])
    with tempfile.TemporaryDirectory(prefix="attnbench-") as scratch:
        stored = Path(scratch, "run.json")
        code = _measure(options.launches, stored, options.keep_going, pytest_arguments)
        try:
            document = load_document(stored) if stored.is_file() else {}
            run = run_from(document) if document else None
        except Unreadable as exc:
            return _refused([str(exc)])
        if run is None or (code not in (0, 1) and run.interrupted != STOPPED):
            _say(f"nothing was written: pytest ended with exit code {code}, the lines above say why")
            return code or 1
    found = [*refusals(run), *disturbances(before, look())]
    if found or code:
        return _refused(found or ["a test failed, the lines above say which"])
    path = session_path(options.into, run)
    try:
        write_session(path, document)
    except OSError as exc:
        return _refused([f"{path} cannot be written: {exc.strerror}"])
    cases = {record.case for record in run.records if record.sample is not None}
    _say(f"recorded {path}: {len(cases)} cases × {options.launches} launches; review it, then commit it")
    for line in _wide(run):
        _say(line)
    return 0


def _measure(launches: int, stored: Path, keep_going: bool, arguments: Sequence[str]) -> int:
    """Run the suite. Without baselines: a session that is recorded is not judged by the one before."""
    command = [sys.executable, "-m", "pytest", "--benchmark-only", f"--attn-launches={launches}"]
    command += [f"--benchmark-json={stored}", f"--benchmark-storage=file://{stored.parent}"]
    command += [*([] if keep_going else ["-p", "attnbench.early_stop"]), "-o", "attn_baselines=", *arguments]
    of_judged_runs = dict.fromkeys(("ATTN_REQUIRE_BASELINE", "ATTN_REQUIRE_VERDICT"), "0")
    with subprocess.Popen(command, env={**os.environ, **of_judged_runs}) as running:
        before = signal.signal(signal.SIGTERM, lambda *_: running.terminate())
        try:
            while True:
                try:
                    return running.wait()
                except KeyboardInterrupt:  # pytest has it too: it ends its launches, and says where it was cut off
                    continue
        finally:
            signal.signal(signal.SIGTERM, before)


def _wide(run: RunFile) -> list[str]:
    """A line for every case whose launches differ by more than `WIDE` in every measure that they have."""
    readings: dict[str, list[Reading]] = {}
    for record in once(run.records):
        readings.setdefault(record.case, []).append(reading(record, None))
    spread = {case: _spread(launches) for case, launches in readings.items()}
    return [f"its launches differ by {share:.2%}: {case}" for case, share in spread.items() if share > WIDE]


def _spread(launches: Sequence[Reading]) -> float:
    measures = set.intersection(*(set(one.estimates) for one in launches))
    logs = [[one.estimates[measure].log for one in launches] for measure in measures]
    return min(math.expm1(max(found) - min(found)) for found in logs)


def _refused(reasons: Sequence[str]) -> int:
    for reason in reasons:
        _say(f"refused: {reason}")
    _say("nothing was written; what was stored before is untouched")
    return 1


def _say(text: str) -> None:
    sys.stderr.write(f"attnbench: {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
