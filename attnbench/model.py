"""The words of the project as data (standard library only).

Base units inside: seconds, bytes, FLOP. The unit is part of every field's name. Tensor axes are always written
`[batch, seq, heads, head_dim]`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import Enum

from attnbench import printable

#: Version of the stored form of `Record` and `Launch`. Raised when an older reader could misread a newer file.
#: 2: a record may be the difference from an earlier one (attnbench/codec.py).
SCHEMA_VERSION = 2

#: Metrics that are better the larger they are: what a check allows of them is the smallest value, of all others the largest.
SIMILARITIES = ("cosine",)

#: Compile modes: as it is, torch.compile's default, and `mode="max-autotune"`.
MODES = ("eager", "default", "max-autotune")

#: The name of the code of a backend's own repository among the versions of a record, and what follows local changes.
REPOSITORY, DIRTY = "repository", "+dirty"


class Status(str, Enum):
    """What became of a case. Only `MEASURED` carries a latency."""

    MEASURED = "measured"
    CHECKED = "checked"  # accurate, and deliberately not timed (--benchmark-disable, pytest-xdist)
    UNSUPPORTED = "unsupported"  # cannot run here, with all reasons
    INCORRECT = "incorrect"  # ran, and is wrong: never timed
    ERROR = "error"  # installed, but fails to import, compile or run
    NOT_RUN = "not-run"  # selected, and the run ended or was told to skip before it

    def __str__(self) -> str:
        return self.value


class Judgement(str, Enum):
    """What a comparison with the baseline came to. Only `REGRESSED` fails a test by itself."""

    REGRESSED = "regressed"
    INCONCLUSIVE = "inconclusive"  # the budget of launches is spent, and the interval still holds both answers
    MISSING = "missing"  # selected and in the baseline, and not measured
    INCOMPARABLE = "incomparable"  # the fingerprint's key, the inputs or the autotune choices differ
    NO_BASELINE = "no-baseline"
    IMPROVED = "improved"
    UNCHANGED = "unchanged"

    def __str__(self) -> str:
        return self.value


class CaseEnded(Exception):
    """Raised where a case ends without a latency: carries the status and every reason."""

    def __init__(self, status: Status, *reasons: Reason) -> None:
        super().__init__("; ".join(reason.text for reason in reasons))
        self.status = status
        self.reasons = reasons


@dataclass(frozen=True)
class Reason:
    """Why: a code to group by, and one sentence with what was found and what is needed.

    Others' words come in here, a kernel's error or a stored file's, so the sentence is made one line that can be shown, of
    at most `attnbench.printable.LONGEST_MESSAGE` characters.
    """

    code: str
    text: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "code", printable.message(self.code, printable.LONGEST_NAME))
        object.__setattr__(self, "text", printable.message(self.text))


@dataclass(frozen=True)
class Workload:
    """One attention problem: shapes, dtype, mask, direction and input distribution.

    `why` says what the row is for and `source` where it comes from; neither takes part in identity.
    """

    name: str
    batch: int
    seq: int
    heads: int
    head_dim: int
    dtype: str = "bf16"
    mask: str = "none"
    direction: str = "forward"
    distribution: str = "randn*randint(1,5)"
    seed: int = 0
    why: str = ""
    source: str = ""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of q, k, v and of the output: `[batch, seq, heads, head_dim]`."""
        return (self.batch, self.seq, self.heads, self.head_dim)

    @property
    def flop(self) -> int:
        """FLOP of one forward call: two products of 2·seq²·head_dim each, per head and batch entry.

        The count that FlashAttention's own benchmarks use; softmax is not counted.
        """
        return 4 * self.batch * self.heads * self.seq * self.seq * self.head_dim

    @property
    def spelt(self) -> str:
        """The form that `--attn-workload` accepts for a workload without a name, `1x4608x24x128:bf16`."""
        return "x".join(map(str, self.shape)) + f":{self.dtype}"


def variant_name(backend: str, mode: str) -> str:
    """`torch_flash@default`: how a variant is named in ids, options and files."""
    return f"{backend}@{mode}"


@dataclass(frozen=True)
class Case:
    """Variant × workload: one pytest item. `str(case)` is its id, by which records are keyed."""

    backend: str
    mode: str
    workload: str

    @property
    def variant(self) -> str:
        return variant_name(self.backend, self.mode)

    def __str__(self) -> str:
        return f"{self.variant}-{self.workload}"


@dataclass(frozen=True)
class ErrorMetrics:
    """Distance of an output from the reference, element-wise over `[batch, seq, heads, head_dim]`.

    rel_l1 = Σ|o−r| / Σ|r| and cosine = o·r / (‖o‖‖r‖) as SageAttention defines them, rel_l2 = ‖o−r‖₂ / ‖r‖₂ (the RMSE
    relative to the RMS of the reference), mse = mean (o−r)². `worst_index` is where |o−r| is largest, `worst_found` and
    `worst_expected` the two values there. A non-finite output has `nonfinite` > 0, and metrics of the finite elements only.
    """

    max_abs: float
    mean_abs: float
    mse: float
    rel_l1: float
    rel_l2: float
    cosine: float
    nonfinite: int
    worst_index: tuple[int, ...]
    worst_found: float | None
    worst_expected: float | None


def is_within(metric: str, found: float, limit: float) -> bool:
    """Whether `found` is on the right side of what is allowed of `metric`; false where either is not a number."""
    return found >= limit if metric in SIMILARITIES else found <= limit


@dataclass(frozen=True)
class Check:
    """Accuracy of one case on one input distribution, beside what the tolerance allowed."""

    distribution: str
    error: ErrorMetrics
    plain: ErrorMetrics  # plain PyTorch attention on the same inputs, every step in their dtype
    fused: ErrorMetrics  # an ideal fused kernel on the same inputs: fp32, but probabilities and output rounded
    allowed: dict[str, float]  # metric → largest permitted value, of `SIMILARITIES` the smallest
    rows: str  # "all", or how many query rows were sampled and with which seed
    poisoned: bool  # the output was written into memory that held NaN before

    @property
    def passed(self) -> bool:
        """Finite, and every metric within what was allowed; a metric that is NaN or unknown is not."""
        found = ((metric, getattr(self.error, metric, math.nan), limit) for metric, limit in self.allowed.items())
        return not self.error.nonfinite and all(is_within(*one) for one in found)


@dataclass(frozen=True)
class DeviceOp:
    """One step of the route: a device kernel, or an aten operator on the CPU. Launch figures where the profiler has them."""

    name: str
    count: int = 1
    grid: tuple[int, ...] | None = None
    block: tuple[int, ...] | None = None
    registers: int | None = None
    shared_bytes: int | None = None
    duration_s: float | None = None


@dataclass(frozen=True)
class Compilation:
    """What torch.compile made of a call. `graph_breaks` are dynamo's own sentences.

    `choices` are the configurations that Inductor's autotuning settled on, a line per generated kernel:
    `triton_tem_fused_0: BLOCK_M=128 BLOCK_N=64 num_warps=8 num_stages=3`. `cache` is "warm" when every graph came from
    Inductor's cache, "cold" when one had to be compiled, empty when that is not known.
    """

    graphs: int
    graph_breaks: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    cache: str = ""


@dataclass(frozen=True)
class Sample:
    """The rounds of one case in one launch: seconds of one call each, in the order in which they were taken."""

    rounds_s: tuple[float, ...]
    timer: str
    host_s: float | None = None  # median time that the call took to return while the device was busy
    empty_s: float | None = None  # the interval with nothing in it, already taken off every round
    ceiling_hz: float | None = None  # SM clock that the device reaches when it only spins
    before_hz: tuple[float, ...] = ()  # SM clock right before each round
    cycles: tuple[int | None, ...] = ()  # SM cycles from stamp to stamp (events included), None where not counted
    waited_s: float = 0.0  # that the rounds waited in all for the clock to reach its ceiling
    unsettled: int = 0  # rounds that started below the ceiling
    synchronising: bool = False  # the call waits for the device: the host's work is inside the interval
    self_throttled: bool = False  # so long a call (100 ms and more) that it lowers its own clock
    unequal: int = 0  # rounds whose output was within the tolerance, but not bit-equal to the checked one

    def __post_init__(self) -> None:
        if not self.rounds_s:
            raise ValueError("a Sample needs at least one round")
        if not all(math.isfinite(r) and r > 0 for r in self.rounds_s):
            raise ValueError("every round of a Sample is a positive number of seconds")


@dataclass(frozen=True)
class StateChange:
    """What a case changed of the process that it ran in, `torch threads 2 → 1`, and whether it could be put back."""

    what: str
    put_back: bool = True


@dataclass(frozen=True)
class Record:
    """Everything about one case in one launch.

    Raises ValueError when a record that was not measured carries a sample, when a measured one has none, or when a
    measured or checked one holds a failed check: a wrong or failed kernel has no latency, and this class, not its
    caller, sees to it.
    """

    case: str
    backend: str
    family: str
    mode: str
    workload: Workload
    launch: str
    status: Status
    reasons: tuple[Reason, ...] = ()
    nodeid: str = ""
    layout: str = ""
    tolerance: str = ""
    source: str = ""  # what was loaded, where the backend says: a commit, a build
    versions: dict[str, str] = field(default_factory=dict)  # of the code that the backend needs, by distribution
    input_sha256: str | None = None
    output_contiguous: bool | None = None
    first_call_s: float | None = None
    compilers_s: float | None = None  # CPU seconds of compilers that loading and first call waited for
    workspace_bytes: int | None = None
    compilation: Compilation | None = None
    spent_s: dict[str, float] = field(default_factory=dict)  # wall time of each step, for whoever asks where it goes
    checks: tuple[Check, ...] = ()
    route: tuple[DeviceOp, ...] = ()
    kernel_s: float | None = None  # of `route`, the device time of the attention kernel itself
    sample: Sample | None = None
    injected: float | None = None  # share of its latency that --attn-inject added: 0.02 is +2 %
    apart: str = ""  # why its backend was launched apart from the others, unasked
    changed: tuple[StateChange, ...] = ()  # what it changed of its process, for the cases that follow

    def __post_init__(self) -> None:
        if (self.status is Status.MEASURED) != (self.sample is not None):
            raise ValueError(
                f"record {self.case}: status '{self.status}' "
                + ("needs a sample" if self.sample is None else "cannot carry a sample")
            )
        if self.status in (Status.MEASURED, Status.CHECKED):
            if failed := [check.distribution for check in self.checks if not check.passed]:
                raise ValueError(
                    f"record {self.case}: status '{self.status}' with a failed check on {', '.join(failed)} inputs"
                )
        elif not self.reasons:
            raise ValueError(f"record {self.case}: status '{self.status}' needs a reason")

    @property
    def variant(self) -> str:
        return variant_name(self.backend, self.mode)

    @property
    def spoils_process(self) -> bool:
        """Whether nothing that follows may be measured in the process of this case."""
        lost = any(reason.code == "context-lost" for reason in self.reasons)
        return lost or any(not change.put_back for change in self.changed)

    def ended(self, status: Status, *reasons: Reason) -> Record:
        """This record, ended without a latency for `reasons`."""
        return replace(self, status=status, reasons=reasons, sample=None)


@dataclass(frozen=True)
class Fingerprint:
    """What must match for two records to be comparable (`key`), and what is only shown (`context`).

    A value of None means that the field could not be read here; it is shown as unknown and matches anything.
    """

    key: dict[str, str | int | float | None]
    context: dict[str, str | int | float | None]


@dataclass(frozen=True)
class Launch:
    """One process that measured every case once."""

    id: str
    started_at: str  # ISO 8601, UTC
    fingerprint: Fingerprint
    simulated: bool = False

    @property
    def unit(self) -> str | None:
        """The hash of the physical GPU, None where it is unknown."""
        unit = self.fingerprint.context.get("unit")
        return None if unit in (None, "") else str(unit)


@dataclass(frozen=True)
class Bearing:
    """What the stored sessions of a unit bear for one family, and how many of them would bear a limit of 1 %.

    occasion, launch: relative standard deviations that the interval holds, between sessions and between launches; assumed:
    whether `occasion` is, as the sessions are too few to tell it. sessions_for_one_percent: in all, where further ones agree
    with these; None where no number of them would do.
    """

    sessions: int
    occasion: float
    assumed: bool
    launch: float
    sessions_for_one_percent: int | None = None


@dataclass(frozen=True)
class Verdict:
    """What the comparison of one case with its baseline came to, and all that it rests on.

    change, low, high: relative, +0.02 is 2 % slower; the interval's two ends are each wrong at the rate that the rule
    grants this case. `measure` says which of seconds and cycles they are of, and `found_s`
    is at the baseline's clock where it is cycles. measured_s: the latency as timed. clock_change: by how much, relative,
    the SM clock during the call was above the baseline's; None where seconds were judged.
    found_by: the smallest slow-down that 95 of 100 such runs would have called regressed, fresh launches included; None
    where nothing would be, as on a unit that the baseline does not know. nodeid: the test, as one case may be in several.
    carried: the smallest limit that the stored sessions bear; bearing: why, None on a unit that they do not know.
    """

    case: str
    kind: Judgement
    reasons: tuple[Reason, ...] = ()
    baseline_s: float | None = None
    found_s: float | None = None
    measured_s: float | None = None
    measure: str = ""
    change: float | None = None
    clock_change: float | None = None
    low: float | None = None
    high: float | None = None
    limit: float | None = None
    known_unit: bool | None = None
    found_by: float | None = None
    launches: int = 0  # of this run, that count: each once, and those that made the same autotune choices
    compared_with: tuple[str, ...] = ()  # stored sessions, `nvidia-h200/0001_0123456789ab.json`
    notes: tuple[str, ...] = ()  # what else differs from the baseline: kernels that ran, versions
    reproduce: str = ""
    nodeid: str = ""
    carried: float | None = None
    bearing: Bearing | None = None
    history: tuple[
        str, ...
    ] = ()  # stored sessions of other versions of the code, which do not count, with what differs


@dataclass(frozen=True)
class RunFile:
    """What one run stores under the key `attnbench` of pytest-benchmark's JSON.

    baselines_from: the commit whose sessions the verdicts rest on, where it was not the work tree's: `HEAD^1 (0f1e2d…)`.
    baseline_changes: what the work tree's sessions are beside the commit's: `edited nvidia-h200/0001_….json`.
    """

    schema: int
    attnbench: str
    reference: str
    launches: tuple[Launch, ...]
    records: tuple[Record, ...]
    interrupted: str = ""
    verdicts: tuple[Verdict, ...] = ()
    baselines_from: str = ""
    baseline_changes: tuple[str, ...] = ()

    @property
    def edits_baselines(self) -> bool:
        """Whether a reviewed session was changed, renamed or removed; one more is what a refresh of the baselines is."""
        return any(not change.startswith("added ") for change in self.baseline_changes)
