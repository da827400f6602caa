"""Worlds for scripts/gate_simulation: what launches of a suite read, drawn without a look at the rule that judges them.

Everything is a natural logarithm, so 0.01 is 1 %. A case reads `cycles` and `seconds = cycles / the clock during the call`:

    cycles   what the kernel takes + launch + rounds + occasion (one draw for a whole family) + drift (likewise)
             + unit (by variant) + slow process (all cases of it) + memory's share of the time · change of the clock during
             the call
    clock    during the call: the start clock of the process, which it follows in part, − what the call's own load takes off
             it − a step of 15 MHz or none (by session and family, where power limits the kernel) + jitter

The ranges are those of the stored H100 sessions (276 cases in six launches): kernels that power limits run 6 to 17 % below
the clock that they start at and their cycles follow it by 0 to 0.2; `torch_math` and `te_unfused` run 0 to 3 % below, and
their cycles follow it by 0 to 1.

No import of attnbench here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

LENGTHS = 6
#: Families and their numbers of variants: all that were measured on one H100, those that most installations have, and a few.
FAMILIES = {
    282: {
        "torch": 14,
        "flash-attn": 4,
        "hf-kernels": 3,
        "SageAttention": 3,
        "xformers": 9,
        "cudnn-frontend": 1,
        "flashinfer": 3,
        "attnbench": 1,
        "transformer-engine": 9,
    },
    150: {"torch": 14, "flash-attn": 4, "SageAttention": 3, "xformers": 2, "cudnn-frontend": 1, "attnbench": 1},
    30: {"torch": 3, "flash-attn": 1, "SageAttention": 1},
}
CEILING_HZ = 1980e6
HOME = "home"  # the unit of the sessions, and of the judged run
STEP = math.log(1980 / 1965)
#: Standard error of a launch's trimmed mean from its rounds, by case.
ROUNDS = (0.0003, 0.0008)
POWER_LIMITED = 0.87  # share of variants


@dataclass(frozen=True)
class Clocks:
    """How the clock during a call behaves, from least to most; jitter: sd between launches that start at the same clock."""

    memory: tuple[float, float]  # share of memory's time
    load: tuple[float, float]
    follows: tuple[float, float]  # of a change of the start clock, how much the clock during the call follows
    jitter: float
    unit: float  # sd between units


LIMITED = Clocks(memory=(0.0, 0.2), load=(0.062, 0.17), follows=(0.3, 1.2), jitter=0.0013, unit=0.006)
UNLIMITED = Clocks(memory=(0.0, 1.0), load=(0.0, 0.033), follows=(1.0, 1.0), jitter=0.0002, unit=0.0)
SLOW = (0.05, 0.10)
#: Launches after which the correlation of the drift has fallen to 1/e.
DRIFT_LAUNCHES = 3.0
UNITS = (0.003, 0.011)


@dataclass(frozen=True)
class World:
    """Standard deviations, relative. `ours`: by how much those of the judged run are larger than those of stored sessions.

    start_mhz: plateaus of the clock that rounds start at, and how often; by_case: whether every case of a process starts at
    one of its own; slow: share of slow processes; unit: whether the judged unit has no session; slower: the change of
    every case; uneven: sd of the logarithm of the launch noise between variants; usual: whether the world is simulated where
    none is named.
    """

    name: str
    text: str
    launch: float = 0.001
    occasion: float = 0.001
    ours: float = 1.0
    start_mhz: Mapping[int, float] = field(default_factory=lambda: {1980: 1.0})
    by_case: bool = False
    slow: float = 0.0
    drift: float = 0.0
    unit: bool = False
    slower: float = 0.0
    uneven: float = 0.0
    sessions: tuple[int, ...] = (1, 2, 4)
    usual: bool = True

    @property
    def quiet_occasions(self) -> float:
        """The occasion that a run of this world has, infinite where something else disturbs it."""
        disturbed = self.slow or self.drift or self.unit or self.ours > 1
        return math.inf if disturbed else self.occasion


#: Where rounds of the stored H100 sessions start, and how often.
H100_STARTS_MHZ = {1965: 0.01, 1980: 0.28, 1995: 0.48, 2010: 0.19, 2025: 0.03, 2040: 0.01}

WORLDS = {
    world.name: world
    for world in (
        World("assumed", "noise as assumed: launch 0.1 %, occasion 0.1 %"),
        World("clocks", "start clock by launch, as often as on H100s", start_mhz=H100_STARTS_MHZ),
        World("plateaus", "start clock by launch and case, as on H100s", start_mhz=H100_STARTS_MHZ, by_case=True),
        World("twice", "noise twice what the baseline knew", ours=2.0),
        World("occasions", "family occasion 0.34 %", occasion=0.0034),
        World("units", "unknown unit, 0.3 to 1.1 % by variant", unit=True),
        World("slow", "one process in ten 5 to 10 % slower, stored ones too", slow=0.1),
        World("drift", "AR(1) drift 0.3 % over launches, by family", drift=0.003),
        World("tolerated", "everything +0.3 %", slower=0.003),
        World("quiet", "occasion 0.03 %", occasion=0.0003, sessions=(4,)),
        World(
            "any-clock",
            "start clock by launch, all plateaus alike",
            start_mhz=dict.fromkeys(H100_STARTS_MHZ, 1 / 6),
            usual=False,
        ),
        World("uneven", "launch noise by variant (log sd 0.5), everything +0.3 %", uneven=0.5, slower=0.003),
    )
}


@dataclass(frozen=True)
class Origin:
    """Which launch, of which session (empty for the judged run), on which unit."""

    session: str
    unit: str
    launch: str


@dataclass(frozen=True)
class Process:
    """One launch of all cases: the clock that their rounds start at, and logarithms of cycles and of seconds."""

    origin: Origin
    start_hz: np.ndarray
    cycles: np.ndarray
    seconds: np.ndarray


@dataclass(frozen=True)
class Around:
    """By case: log cycles; from … to of the clock that rounds start at, and of what a call takes off its log."""

    cycles: np.ndarray
    starts_hz: np.ndarray
    loads: np.ndarray


class Suite:
    """The cases of a run: which variant and family each is of. `families`: number of variants of each."""

    def __init__(self, families: dict[str, int]) -> None:
        self.variants = [(family, f"{family}_{n}@eager") for family, count in families.items() for n in range(count)]
        self.names = list(families)
        variant_family = [self.names.index(family) for family, _ in self.variants]
        self.variant = np.repeat(np.arange(len(self.variants)), LENGTHS)
        self.family = np.repeat(variant_family, LENGTHS)
        self.cases = [f"{variant}-length{n}" for _, variant in self.variants for n in range(LENGTHS)]

    def __len__(self) -> int:
        return len(self.cases)


class Lab:
    """One GPU model with its kernels: draws the stored sessions, then as many runs as are asked for."""

    def __init__(self, world: World, suite: Suite, rng: np.random.Generator) -> None:
        self.world, self.suite, self._rng = world, suite, rng
        variants, cases = len(suite.variants), len(suite)
        limited = rng.random(variants) < POWER_LIMITED

        def drawn(what: str) -> np.ndarray:
            either = [rng.uniform(*getattr(clocks, what), variants) for clocks in (LIMITED, UNLIMITED)]
            return np.where(limited, *either)[suite.variant]

        self._limited = limited[suite.variant]
        self._memory, self._load, self._follows = drawn("memory"), drawn("load"), drawn("follows")
        self._jitter = np.where(self._limited, LIMITED.jitter, UNLIMITED.jitter)
        self._own = rng.uniform(math.log(1e5), math.log(2e7), cases)
        self.rounds = rng.uniform(*ROUNDS, cases)
        uneven = np.exp(world.uneven * rng.standard_normal(variants) - world.uneven**2)  # mean square 1
        self._launch = (world.launch * uneven)[suite.variant]
        self._units = np.exp(rng.uniform(*np.log(UNITS), variants))[suite.variant]

    def stored(self, sessions: int, launches: int = 3) -> list[Process]:
        found = []
        home = self._unit()
        for n in range(sessions):
            unit = self._unit() if self.world.unit else home
            name = f"unit{n}" if self.world.unit else HOME
            occasion = self._occasion(1.0)
            origins = [Origin(f"000{n + 1}", name, f"session{n} launch{k}") for k in range(launches)]
            found += [self._process(occasion, unit, origin) for origin in origins]
        self._home = self._unit() if self.world.unit else home
        return found

    def run(self) -> Run:
        return Run(self)

    def around(self, stored: Sequence[Process]) -> Around:
        """Where most first launches read, if nothing but noise makes them differ from the stored ones."""
        usual = [1e6 * mhz for mhz, weight in self.world.start_mhz.items() if weight >= 0.1]
        starts_hz = np.array([[min(usual)], [max(usual)]]) * np.ones(len(self.suite))
        clock = self._clock(starts_hz) + self._home[1]
        at = [one.cycles + self._memory * (clock.mean(axis=0) - one.cycles + one.seconds) for one in stored]
        below = np.sort(clock - np.log(starts_hz), axis=0)
        wide = 2.5 * self._jitter
        loads = np.stack((below[0] - STEP * self._limited - wide, below[1] + wide))
        return Around(np.mean(at, axis=0), starts_hz, loads)

    def _clock(self, start_hz: np.ndarray) -> np.ndarray:
        """Log of the clock during a call that starts at this one, on an average unit in an hour without a step."""
        return math.log(CEILING_HZ) + self._follows * np.log(start_hz / CEILING_HZ) - self._load

    def _unit(self) -> tuple[np.ndarray, np.ndarray]:
        """What a physical GPU adds to cycles, and to the clock during a call, by case."""
        if not self.world.unit:
            return np.zeros(len(self.suite)), np.zeros(len(self.suite))
        draws = self._rng.standard_normal((2, len(self.suite.variants)))[:, self.suite.variant]
        return self._units * draws[0], np.where(self._limited, LIMITED.unit, UNLIMITED.unit) * draws[1]

    def _occasion(self, louder: float) -> _Occasion:
        families = len(self.suite.names)
        shift = louder * self.world.occasion * self._rng.standard_normal(families)
        step = self._rng.integers(0, 2, families)[self.suite.family] * self._limited * STEP
        return _Occasion(shift[self.suite.family], step, self.world.drift * self._rng.standard_normal(families), louder)

    def here(self, launch: str) -> Origin:
        """A launch of the judged run."""
        return Origin("", "another" if self.world.unit else HOME, launch)

    def _process(self, occasion: _Occasion, unit: tuple[np.ndarray, np.ndarray], origin: Origin) -> Process:
        rng, world, cases = self._rng, self.world, len(self.suite)
        drawn = rng.choice(list(world.start_mhz), cases if world.by_case else 1, p=list(world.start_mhz.values()))
        start_hz = np.full(cases, 1e6) * drawn
        jitter = rng.standard_normal(cases) * self._jitter
        clock = self._clock(start_hz) + unit[1] - occasion.step + jitter
        cycles = self._own + unit[0] + occasion.shift + self._memory * (clock - self._clock(np.full(cases, CEILING_HZ)))
        cycles += occasion.louder * self._launch * rng.standard_normal(cases)
        cycles += self.rounds * rng.standard_normal(cases)
        if world.drift:
            cycles += occasion.drift[self.suite.family]
            kept = math.exp(-1 / DRIFT_LAUNCHES)
            fresh = world.drift * math.sqrt(1 - kept**2) * rng.standard_normal(len(occasion.drift))
            occasion.drift = kept * occasion.drift + fresh
        if world.slow and rng.random() < world.slow:
            cycles += math.log1p(rng.uniform(*SLOW))
        if not origin.session:
            cycles += math.log1p(world.slower)
        return Process(origin, start_hz, cycles, cycles - clock)


@dataclass
class _Occasion:
    shift: np.ndarray
    step: np.ndarray
    drift: np.ndarray  # of the next process, by family
    louder: float


class Run:
    """One judged run: the process that measures all cases, and spare ones, each drawn when it is first asked for."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._occasion = lab._occasion(lab.world.ours)
        self._drawn: list[Process] = []

    def process(self, number: int) -> Process:
        lab = self._lab
        while len(self._drawn) <= number:
            here = lab.here(f"launch{len(self._drawn)}")
            self._drawn.append(lab._process(self._occasion, lab._home, here))
        return self._drawn[number]
