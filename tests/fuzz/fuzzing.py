"""How inputs are made up: text with a grammar in mind, plain values, files with bytes changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from harness.errors import HarnessError

settings.register_profile(
    "fuzz",
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    phases=[Phase.generate],  # making a failing page smaller takes minutes
)
settings.register_profile(
    "fuzz-long", parent=settings.get_profile("fuzz"), derandomize=False, max_examples=10_000
)


def efforts(examples: int) -> pytest.MarkDecorator:
    """The same inputs every time in CI; other ones, and many more, with `-m slow`."""
    return pytest.mark.parametrize(
        "effort",
        [
            pytest.param(settings(settings.get_profile("fuzz"), max_examples=examples), id="quick"),
            pytest.param(
                settings(settings.get_profile("fuzz-long"), max_examples=5 * examples),
                id="long",
                marks=pytest.mark.slow,
            ),
        ],
    )


def fuzz(
    effort: settings,
    read: Callable[..., None],
    *,
    refusals: int = 5,
    accepted: int = 5,
    **inputs: st.SearchStrategy[Any],
) -> None:
    """Call `read` with as many inputs as the effort says; some must get through, some must not.

    A `HarnessError` is the sentence that a person would see; anything else fails the test.
    """
    outcomes: Counter[bool] = Counter()

    def attempt(**given_inputs: Any) -> None:
        try:
            read(**given_inputs)
        except HarnessError:
            outcomes[False] += 1
        else:
            outcomes[True] += 1

    effort(given(**inputs)(attempt))()
    assert outcomes[True] >= accepted, f"only {outcomes[True]} were accepted"
    assert outcomes[False] >= refusals, f"only {outcomes[False]} were refused"


HOSTILE = st.sampled_from(
    [
        *(
            "",
            " ",
            "\x00",
            "\x1b[2J",
            "\u202e",
            "\ud800",
            "﷽",
            "٣",
            "１",
            "1_000",
            "-0",
            "nan",
            "inf",
        ),
        *(
            "1e999",
            "9" * 400,
            "<script>",
            "'",
            '"',
            "\\",
            "../",
            "=",
            ",",
            "(",
            ")",
            "/",
            "%s",
            "{0}",
        ),
        *(
            "\n",
            "\t",
            "\r\n",
            "\u2028",
            "true",
            "None",
            "&a",
            "*a",
            "!!python/object:os.system",
            "|",
        ),
    ]
)
WORDS = st.one_of(HOSTILE, st.text(max_size=20), st.integers().map(str), st.floats().map(str))


def spliced(*words: str, most: int = 12) -> st.SearchStrategy[str]:
    """Text of the words that mean something, between others that do not."""
    piece = st.one_of(st.sampled_from(words), st.sampled_from(words), WORDS)
    return st.lists(piece, max_size=most).map("".join)


VALUES = st.recursive(
    st.one_of(
        *(st.none(), st.booleans(), st.integers(), st.floats(), WORDS, st.binary(max_size=8)),
        st.sampled_from([2**63, -(2**63) - 1, 10**400, 1e308, 0, 1, -1]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(WORDS, inner, max_size=4)),
    max_leaves=8,
)


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """The content with some bytes changed, cut, repeated or put in."""
    found = bytearray(content)
    for _ in range(draw(st.integers(0, 6))):
        place = draw(st.integers(0, max(len(found) - 1, 0)))
        kind = draw(st.sampled_from(["change", "change", "flip", "cut", "insert", "repeat", "end"]))
        if kind == "change" and found:
            found[place] = draw(st.integers(0, 255))
        elif kind == "flip" and found:
            found[place] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del found[place : place + draw(st.integers(1, 64))]
        elif kind == "insert":
            found[place:place] = draw(st.binary(max_size=16))
        elif kind == "repeat":
            found[place:place] = found[place : place + draw(st.integers(1, 64))]
        else:
            found = found[:place]
    return bytes(found)
