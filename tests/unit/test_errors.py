"""What an exception says in the one line of a row."""

import pytest

from attnbench.backends.errors import describe_error

#: As FlashInfer raises it where a header is missing; the second last line is what a reader needs.
COMPILER = """Ninja build failed. Ninja output:
ninja: Entering directory `/home/me/.cache/flashinfer'
[1/7] nvcc -Werror=all -c prefill.cu
fill.h:52:10: fatal error: curand_kernel.h: No such file
ninja: build stopped: subcommand failed.
"""


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (RuntimeError(), "RuntimeError"),
        (RuntimeError("no kernel image\nand more lines"), "RuntimeError: no kernel image"),
        (ValueError("the cause is:\n  below\n"), "ValueError: the cause is: below"),
        (ValueError("the cause is:\n\n"), "ValueError: the cause is:"),
        (
            RuntimeError(
                "backend='inductor' raised:\nRuntimeError: no such layout\n\nWhile executing %q\n\nUse tlparse"
            ),
            "RuntimeError: backend='inductor' raised: RuntimeError: no such layout",
        ),
        (
            RuntimeError(COMPILER),
            "RuntimeError: Ninja build failed. Ninja output: fill.h:52:10: fatal error: curand_kernel.h: No such file",
        ),
    ],
)
def test_an_exception_is_its_type_and_the_line_that_says_why(raised, said):
    assert describe_error(raised) == said


def raised_by(function):
    with pytest.raises(Exception) as caught:  # noqa: PT011
        function()
    return caught.value


def says_nothing():
    raise NotImplementedError


def repeats_it():
    """As dynamo does: another type, the first one's empty sentence, advice, and the first one's traceback."""
    try:
        says_nothing()
    except NotImplementedError as exc:
        raise LookupError(f"{type(exc).__name__}: {exc}\n\nSet TORCHDYNAMO_VERBOSE=1 for more").with_traceback(
            exc.__traceback__
        ) from None


@pytest.mark.parametrize(("function", "type_said"), [(says_nothing, ""), (repeats_it, "LookupError: ")])
def test_an_exception_that_says_nothing_is_named_with_the_place_that_raised_it(function, type_said):
    said = describe_error(raised_by(function))
    assert said.startswith(f"{type_said}NotImplementedError in says_nothing (tests/unit/test_errors.py, line ")
