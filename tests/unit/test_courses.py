"""Latency over time: what the plots of `--history` hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from attnbench.model import Fingerprint, Launch, Record, RunFile, Sample, Verdict, VerdictKind
from attnbench.report.gather import Gathered, GatheredRun, Kind, key_of
from attnbench.report.history import MOST_WORKLOADS, history_charts
from attnbench.workload import Workload

OTHER = Workload("flux-1024px-t512", 1, 4608, 24, 128)


def session(day: int, *records: Record, torch: str = "2.11", unit: str = "one", device: str = "NVIDIA H200") -> RunFile:
    launch = Launch(
        f"{day}" * 12, f"2026-01-0{day}T10:30:00+00:00", Fingerprint({"device": device}, {"torch": torch, "unit": unit})
    )
    mine = tuple(replace(record, launch=launch.id) for record in records)
    return RunFile(2, "0.1.0", "torch_flash@eager", (launch,), mine)


def gathered(*runs: RunFile) -> Gathered:
    verdicts = {key_of(r): v for run in runs for r in run.records for v in run.verdicts if v.case == r.case}
    return Gathered(tuple(GatheredRun(f"{at}.json", Kind.RUN, one) for at, one in enumerate(runs)), (), verdicts)


@pytest.fixture
def taking(record: Callable[..., Record]) -> Callable[..., Record]:
    """`taking(milliseconds, "backend@mode", workload)`: a measured record."""
    return lambda milliseconds, *what, **changes: record(
        *what, sample=Sample((milliseconds * 1e-3,), "cuda-events"), **changes
    )


def points(found: Gathered) -> dict[str, Sequence[tuple[float | None, float]]]:
    ((chart,), ()) = history_charts(found)
    return {one.name: [(point.x, round(point.value, 3)) for point in one.points] for one in chart.series}


def test_each_variant_stands_against_its_own_first_session(taking: Callable[..., Record]) -> None:
    found = gathered(
        session(3, taking(1.1), taking(23.0, "slow@eager")),
        session(1, taking(1.0)),
        session(2, taking(1.05), taking(20.0, "slow@eager"), taking(5.0, "once@eager")),
    )
    assert list(points(found).items()) == [
        ("slow@eager", [(2.0, 0.0), (3.0, 15.0)]),
        ("torch_flash@eager", [(1.0, 0.0), (2.0, 5.0), (3.0, 10.0)]),
    ]


def test_versions_verdicts_and_units_are_marked_and_told(taking: Callable[..., Record]) -> None:
    now = session(2, taking(1.1), torch="2.12", unit="two")
    verdict = Verdict(now.records[0].case, VerdictKind.REGRESSED)
    ((chart,), ()) = history_charts(gathered(session(1, taking(1.0)), replace(now, verdicts=(verdict,))))
    ((first, newest),) = (one.points for one in chart.series)
    assert (first.events, first.is_hollow) == ((), True)
    assert (newest.events, newest.is_hollow) == (("versions", "regressed"), False)
    assert newest.told == ("1.100 ms", "2026-01-02 10:30 UTC, GPU unit 2 of 2", "torch 2.11 → 2.12", "regressed")
    assert chart.notes == ("Versions that changed: 2026-01-02 torch 2.11 → 2.12 (1 variant).",)
    assert [one.unit for one in chart.sessions] == ["unit 1", "unit 2"]


def test_a_name_that_stood_for_another_problem_has_no_history(taking: Callable[..., Record]) -> None:
    before, after = (replace(OTHER, mask="padding", lengths=(keys,)) for keys in (4608, 100))
    runs = [session(day, taking(ms, "a@eager", one)) for day, ms, one in ((1, 9.0, before), (2, 1.0, after))]
    assert history_charts(gathered(*runs))[0] == ()


def test_what_was_slowed_down_on_purpose_is_no_session(taking: Callable[..., Record]) -> None:
    charts, (missing,) = history_charts(gathered(session(1, taking(1.0)), session(2, taking(2.0, injected=1.0))))
    assert charts == ()
    assert missing.why == "No case was measured in two files or more, so there is no history."


def test_devices_and_workloads_have_charts_of_their_own_and_those_left_out_are_counted(
    taking: Callable[..., Record],
) -> None:
    workloads = [replace(OTHER, name=f"w{seq}", seq=seq) for seq in range(1024, 1024 + MOST_WORKLOADS + 2)]
    many = [taking(1.0, "torch_flash@eager", one) for one in workloads]
    runs = [session(day, *many) for day in (1, 2)] + [session(day, taking(1.0), device="NVIDIA H100") for day in (3, 4)]
    charts, (missing,) = history_charts(gathered(*runs))
    assert [one.stem for one in charts] == [
        "history-nvidia-h200",
        *(f"history-nvidia-h200-{at}" for at in range(2, MOST_WORKLOADS + 1)),
        "history-nvidia-h100",
    ]
    assert missing.why.endswith("on NVIDIA H200 is drawn, that of 2 workloads is not.")
