"""The one benchmark: every selected variant on every selected workload."""

from attnbench.plugin.case import AttnCase


def test_attention(attn_case: AttnCase) -> None:
    """Runs here, is accurate, ran its own kernel, and then how long it takes."""
    attn_case.prepare()
    attn_case.assert_accurate()
    attn_case.assert_route()
    attn_case.measure()
