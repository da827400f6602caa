"""Passes the worlds of gate_worlds.py through the shipped code, run by run, and counts what comes of it.

`Shipped` is the only place that knows attnbench's interface.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from gate_worlds import FAMILIES, WORLDS, Lab, Origin, Process, Run, Suite

from attnbench.model import VerdictKind
from attnbench.verdicts.decision import Decision, decide
from attnbench.verdicts.noise import NoiseModel, noise_model
from attnbench.verdicts.rule import Rule
from attnbench.verdicts.summary import CYCLES, SECONDS, Estimate, SampleSummary

RELAUNCHES = 3  # the default of --attn-relaunch
SECONDS_ALONE = 0.10
REGRESSED, UNCHANGED, IMPROVED, INCONCLUSIVE = (
    VerdictKind.REGRESSED,
    VerdictKind.UNCHANGED,
    VerdictKind.IMPROVED,
    VerdictKind.INCONCLUSIVE,
)


class Shipped:
    """What attnbench ships, for one baseline: `noise.noise_model` of its sessions, and `decision.decide` for every look."""

    def __init__(
        self, suite: Suite, rounds: np.ndarray, stored: Sequence[Process], relaunches: int = RELAUNCHES
    ) -> None:
        self._suite, self._rounds = suite, rounds
        self.rule = Rule(cases=len(suite), relaunches=relaunches)
        self._theirs = [
            [
                self.summary(case, one.origin, *map(float, (one.start_hz[case], one.cycles[case], one.seconds[case])))
                for one in stored
            ]
            for case in range(len(suite))
        ]
        self._noise_model: NoiseModel = noise_model(self._theirs)

    def summary(self, case: int, of: Origin, start_hz: float, cycles: float, seconds: float) -> SampleSummary:
        error = float(self._rounds[case])
        family, variant = self._suite.variants[self._suite.variant[case]]
        return SampleSummary(
            session=of.session,
            unit=of.unit,
            launch=of.launch,
            estimates={SECONDS: Estimate(seconds, error), CYCLES: Estimate(cycles, error)},
            resolution=1e-4,
            unsettled=False,
            self_throttled=False,
            settled_hz=start_hz,
            variant=variant,
            family=family,
        )

    def look(self, case: int, ours: Sequence[SampleSummary]) -> Decision:
        return decide(ours, self._theirs[case], self.rule, self._noise_model)


@dataclass
class Injected:
    """What became of cases that were slowed down by some amount."""

    cases: int = 0
    regressed: int = 0
    acquitted: int = 0

    def add(self, kind: VerdictKind) -> None:
        self.cases += 1
        self.regressed += kind is REGRESSED
        self.acquitted += kind in (UNCHANGED, IMPROVED)


@dataclass
class Tally:
    """All runs against one baseline."""

    false: list[int] = field(default_factory=list)  # cases falsely called regressed, by run
    kinds: Counter[VerdictKind] = field(default_factory=Counter)
    relaunches: int = 0  # of a case in a fresh process
    injected: dict[str, Injected] = field(default_factory=dict)
    limits: list[float] = field(default_factory=list)
    finds: list[float] = field(default_factory=list)


class Against:
    """Runs against one baseline.

    Most first launches lie where nothing is ever suspected. For each case a box is looked for, of log cycles, start clock
    and what the call takes off that, whose corners the shipped code calls *unchanged*. It does so as long as none of the
    three is too far to one side, so a first launch inside needs no comparison. `exact` compares every one.
    """

    def __init__(self, lab: Lab, sessions: int, *, exact: bool = False) -> None:
        self._lab, self._suite = lab, lab.suite
        self._stored = lab.stored(sessions)
        self.shipped = Shipped(lab.suite, lab.rounds, self._stored)
        self._around = lab.around(self._stored)
        self._reach = np.full(len(lab.suite), -1.0)  # of the boxes, in log cycles
        if not exact:
            self._look_around()

    def judge(self, run: Run, case: int, cycles: float = 0.0, seconds: float = 0.0) -> tuple[Decision, int]:
        """The last comparison and the number of relaunches, as retest.Judging.judge does it.

        cycles, seconds: what was injected, in logarithms.
        """
        ours: list[SampleSummary] = []
        while True:
            one = run.process(len(ours))
            at = float(one.start_hz[case]), float(one.cycles[case]) + cycles, float(one.seconds[case]) + seconds
            ours.append(self.shipped.summary(case, one.origin, *at))
            found = self.shipped.look(case, ours)
            spares = len(ours) - 1
            if not found.suspect or spares >= self.shipped.rule.relaunches:
                return found, spares

    def add(self, tally: Tally, run: Run, rng: np.random.Generator, injections: int = 1) -> None:
        """Judge all cases of a run, and a few of them once more with each slow-down."""
        first = run.process(0)
        calm = self._is_calm(first)
        kinds = Counter({UNCHANGED: int(calm.sum())})
        for case in np.flatnonzero(~calm):
            found, spares = self.judge(run, case)
            kinds[found.kind] += 1
            tally.relaunches += spares
        tally.false.append(kinds[REGRESSED])
        tally.kinds += kinds
        for case in rng.choice(len(self._suite), injections, replace=False):
            found, _ = self.judge(run, case)
            tally.limits.append(found.limit)
            slower = {"+1 %": 0.01, "+2 %": 0.02, "limit": found.limit}
            if math.isfinite(found.found_by):
                tally.finds.append(found.found_by)
                slower["finds"] = found.found_by
            judged: dict[float, VerdictKind] = {}
            for name, size in slower.items():
                if size not in judged:
                    judged[size] = self.judge(run, case, math.log1p(size), math.log1p(size))[0].kind
                tally.injected.setdefault(name, Injected()).add(judged[size])
            alone = self.judge(run, case, 0.0, math.log1p(SECONDS_ALONE))[0].kind
            tally.injected.setdefault("seconds", Injected()).add(alone)

    def _is_calm(self, process: Process) -> np.ndarray:
        around, load = self._around, process.cycles - process.seconds - np.log(process.start_hz)
        return (
            (np.abs(process.cycles - around.cycles) <= self._reach)
            & (around.starts_hz[0] <= process.start_hz)
            & (process.start_hz <= around.starts_hz[1])
            & (around.loads[0] <= load)
            & (load <= around.loads[1])
        )

    def _look_around(self) -> None:
        first, variant = 0, -1
        for case in range(len(self._suite)):
            if self._suite.variant[case] != variant:  # of one, what held for the case before holds as a rule
                first, variant = 0, self._suite.variant[case]
            held = next((n for n in range(first, len(REACHES)) if self._holds(case, REACHES[n])), None)
            if held is not None:
                self._reach[case], first = REACHES[held], held

    def _holds(self, case: int, reach: float) -> bool:
        around = self._around
        corners = product(
            (around.cycles[case] + reach, around.cycles[case] - reach),
            sorted(set(around.starts_hz[:, case])),
            around.loads[:, case],
        )
        return all(self._acquits(case, *map(float, corner)) for corner in corners)

    def _acquits(self, case: int, cycles: float, start_hz: float, load: float) -> bool:
        seconds = cycles - math.log(start_hz) - load
        found = self.shipped.look(
            case, [self.shipped.summary(case, self._lab.here("launch0"), start_hz, cycles, seconds)]
        )
        return found.kind is UNCHANGED and not found.suspect


#: Half-widths that are tried for the boxes.
REACHES = (0.012, 0.008, 0.006, 0.0045, 0.003, 0.0015)


@dataclass(frozen=True)
class Cell:
    """One line of the table."""

    world: str
    cases: int
    sessions: int


def tally(cell: Cell, baseline: int, runs: int, seed: int, *, exact: bool = False, injections: int = 1) -> Tally:
    """`runs` runs against the baseline of this number; the same whoever draws it, and in whatever order."""
    key = [seed, zlib.crc32(cell.world.encode()), cell.cases, cell.sessions, baseline]
    rng, which = (np.random.default_rng([*key, part]) for part in (0, 1))
    lab = Lab(WORLDS[cell.world], suite_of(cell.cases), rng)
    against = Against(lab, cell.sessions, exact=exact)
    found = Tally()
    for _ in range(runs):
        against.add(found, lab.run(), which, injections)
    return found


def suite_of(cases: int) -> Suite:
    return Suite(FAMILIES[cases])
