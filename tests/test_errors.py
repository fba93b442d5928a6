"""The hint that many errors carry."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import HarnessError, ModelError, unknown_name


@pytest.mark.parametrize(
    ("name", "allowed", "sentence"),
    [
        ("pdg", ["pgd", "fgsm"], "no attack named 'pdg'. Did you mean 'pgd'?"),
        ("square", ["pgd", "fgsm"], "no attack named 'square'. Known: fgsm, pgd."),
        ("", [], "no attack named ''. Known: none."),
        ("p\nq\x1b[2J", ["fgsm"], r"no attack named 'p\nq\x1b[2J'. Known: fgsm."),
        ("é" * 121, ["fgsm"], f"no attack named '{'é' * 120}...'. Known: fgsm."),
    ],
)
def test_an_unknown_name_brings_the_nearest_one_or_else_all(name, allowed, sentence):
    error = unknown_name("attack", name, allowed)

    assert isinstance(error, HarnessError)
    assert str(error) == sentence


@given(st.text(max_size=300), st.sets(st.text(max_size=20), max_size=8))
def test_the_hint_is_always_something_that_exists(name, allowed):
    sentence = str(unknown_name("thing", name, allowed))

    assert any(repr(known)[1:-1] in sentence or known in sentence for known in allowed) or (
        "Known: none." in sentence
    )


def test_a_model_error_keeps_its_status_and_is_no_sentence_for_the_person_alone():
    error = ModelError("non_finite", "3 logits are NaN")

    assert (error.status, str(error)) == ("non_finite", "3 logits are NaN")
    assert not isinstance(error, HarnessError)
