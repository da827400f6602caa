"""The fixtures that the suite, and anybody's own tests, are written with.

pytest imports this module in every run, so what only a case needs is imported where it is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from attnbench.plugin.run_state import RUN
from attnbench.workload import Workload

if TYPE_CHECKING:
    from attnbench.backends.variant import Variant
    from attnbench.checks.reference import References
    from attnbench.plugin.benchmark_bridge import Benchmark
    from attnbench.plugin.case import AttnCase
    from attnbench.timing.timer import Timer
    from attnbench.workloads.inputs import Inputs

#: On an item: its case, once its fixture has made it, and its timer.
CASE: pytest.StashKey[AttnCase] = pytest.StashKey()
TIMER: pytest.StashKey[Timer] = pytest.StashKey()


@pytest.fixture
def attn_variant(request: pytest.FixtureRequest) -> Variant:
    """The variant under test: a backend × a compile mode. Parametrized by the plugin."""
    return request.config.stash[RUN].selection.variants[request.param]


@pytest.fixture(scope="session")
def attn_workload(request: pytest.FixtureRequest) -> Workload:
    """The workload under test. Parametrized by the plugin; items are grouped by it."""
    return request.config.stash[RUN].selection.workloads[request.param]


@pytest.fixture(scope="session")
def attn_inputs(request: pytest.FixtureRequest, attn_workload: Workload) -> Iterator[Inputs]:
    """q, k, v of the workload, `[batch, seq, heads, head_dim]`, on the device: made once per workload, freed after."""
    from attnbench.workloads.inputs import make_inputs

    run = request.config.stash[RUN]
    if run.here.device_type == "sim":
        pytest.fail("the simulated device has no tensors: attn_inputs needs --attn-device cpu or cuda", pytrace=False)
    inputs = make_inputs(attn_workload, run.here.device_type)
    yield inputs
    inputs.sets.clear()
    inputs.kept.clear()


@pytest.fixture(scope="session")
def attn_reference(attn_inputs: Inputs) -> Iterator[References]:
    """The reference per input distribution: fp64 math attention, beside the error of plain PyTorch attention."""
    from attnbench.checks.reference import make_references

    references = make_references(attn_inputs)
    yield references
    references.clear()


@pytest.fixture
def attn_case(
    request: pytest.FixtureRequest, attn_variant: Variant, attn_workload: Workload, benchmark: Benchmark
) -> Iterator[AttnCase]:
    """One case: call prepare(), assert_accurate(), assert_route() and measure(), in this order."""
    from attnbench.plugin.case import AttnCase, CaseSteps

    run = request.config.stash[RUN]
    draft = run.draft(attn_variant, attn_workload, request.node.nodeid)
    steps: CaseSteps
    if run.runs_elsewhere(draft.nodeid):
        run.note_lost_context()
        from attnbench.execution.remote_case import RemoteCase

        steps = RemoteCase(draft, run.processes.numbers, run.processes.measure)
    elif run.here.device_type == "sim":
        from attnbench.execution.simulated_case import SimCase

        steps = SimCase(attn_variant, draft, run.settings.scenario, run.settings.injections)
    else:
        from attnbench.execution.local_case import TorchCase

        steps = TorchCase(
            attn_variant,
            draft,
            inputs=lambda: request.getfixturevalue("attn_inputs"),
            references=lambda: request.getfixturevalue("attn_reference"),
            injections=run.settings.injections,
        )
    case = AttnCase(run, steps, benchmark, request.node.stash[TIMER])
    request.node.stash[CASE] = case
    yield case
    case.close()
