"""The images of a stored attack are made again, and verified."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from evaluated_subjects import (
    THREAT,
    convolution,
    job_of,
    random_pixels,
    reverse_attention_network,
    run,
    split_of,
    subject_of,
)

from harness.attacks.attack import ATTACKS, parse_attack
from harness.evaluation.exhibition import WorstAttack, again
from harness.threat import ThreatModel
from harness.verification import VerificationError, check_inside

COUNT = 130


@pytest.fixture(scope="module")
def plain():
    module = convolution()
    pixels = random_pixels(3, 16, 16, count=COUNT)
    with torch.no_grad():
        labels = module.eval()(pixels.float() / 255).argmax(1)
    labels[::7] = (labels[::7] + 1) % 10  # some are wrong as they are
    return subject_of(module), split_of(pixels, labels)


def _stored(spec, subject, data):
    """What evaluation finds slice by slice: attackable and broken [N] bool."""
    with torch.no_grad():
        right = subject.model(data.batch(0, len(data))).logits.argmax(1) == data.labels
    broken = []
    for first in range(0, len(data), 100):
        last = min(first + 100, len(data))
        outcome = run(job_of(spec, first, last), subject, data, attackable=right[first:last])
        broken += outcome.broken
    return right, torch.tensor(broken)


@pytest.mark.parametrize(
    "text",
    ["pgd(steps=3)", "apgd_ce(steps=4)", "square(queries=20)", "apgd_ce(steps=4,parity=true)"],
)
def test_the_same_images_are_broken_as_when_it_was_stored(plain, text):
    subject, data = plain
    spec = parse_attack(text)
    right, broken = _stored(spec, subject, data)
    images = data.batch(0, COUNT)
    worst = WorstAttack(spec, 0, tuple(broken.nonzero()[:, 0].tolist()))
    view = again(worst, subject, images, data.labels, THREAT)
    with torch.no_grad():
        wrong = subject.model(view.images).logits.argmax(1) != data.labels

    assert torch.equal(wrong & right, broken)
    assert torch.equal(view.images[~right], images[~right])
    assert (view.on, view.note) == (
        spec.label,
        f"Seed 0: broke {int(broken.sum())} of {int(right.sum())} images that were right.",
    )
    check_inside(images, view.images, THREAT)


@pytest.mark.parametrize("threat", [THREAT, ThreatModel("l2", Fraction(1, 2))])
def test_the_images_are_there_in_grey_levels_inside_the_ball_too(plain, threat):
    subject, data = plain
    images = data.batch(0, 40)
    worst = WorstAttack(parse_attack("pgd(steps=3)"), 0, ())
    view = again(worst, subject, images, data.labels[:40], threat)
    near = (view.pixels.float() / 255 - view.images).abs().amax()

    assert view.pixels.dtype == torch.uint8
    assert near <= 1.01 / 255
    check_inside(images, view.pixels.float() / 255, threat)


def test_where_nothing_breaks_the_point_of_the_highest_value_is_kept(plain):
    subject, data = plain
    images = data.batch(0, COUNT)
    held = again(
        WorstAttack(parse_attack("pgd(steps=1)"), 0, ()),
        subject,
        images,
        data.labels,
        replace(THREAT, epsilon=THREAT.epsilon / 1000),
    )

    assert ((held.images - images).abs().amax((1, 2, 3)) > 0).float().mean() > 0.7


def test_the_note_counts_what_held_this_time(plain):
    subject, data = plain
    worst = WorstAttack(parse_attack("uniform_noise(draws=1)"), 0, tuple(range(COUNT)))
    note = again(worst, subject, data.batch(0, COUNT), data.labels, THREAT).note

    assert "that it broke when stored held this time" in note


def test_a_slice_is_attacked_as_a_whole_by_what_is_right_in_it(plain, monkeypatch):
    seen = []

    def watch(search, *, loss, **_):
        seen.append(list(search.streams.indices))
        search.judge_clean(loss)

    monkeypatch.setitem(ATTACKS._entries, "pgd", replace(ATTACKS["pgd"], run=watch))
    subject, data = plain
    again(
        WorstAttack(parse_attack("pgd"), 0, ()), subject, data.batch(0, COUNT), data.labels, THREAT
    )
    expected = [i for i in range(COUNT) if i % 7]

    assert seen == [[i for i in expected if i < 100], [i for i in expected if i >= 100]]


def test_an_attack_on_a_head_reaches_its_head():
    network = reverse_attention_network()
    pixels = random_pixels(1, 8, 8, count=40)
    with torch.no_grad():
        labels = network(pixels.float() / 255).logits.argmax(1)
    subject = subject_of(network, auxiliary=2, select=True, features=True)
    data, spec = split_of(pixels, labels), parse_attack("pgd(steps=3,surface=auxiliary(0))")
    _, broken = _stored(spec, subject, data)
    view = again(WorstAttack(spec, 0, ()), subject, data.batch(0, 40), labels, THREAT)

    assert view.on == "pgd(steps=3)@auxiliary(0):ce"
    assert f"broke {int(broken.sum())} of 40" in view.note


def test_an_image_outside_the_ball_is_no_result(plain, monkeypatch):
    def far(search, *, loss, **_):
        search.judge_clean(loss)
        search.adversarial = (search.adversarial + 0.5).clamp(0, 1)

    monkeypatch.setitem(ATTACKS._entries, "pgd", replace(ATTACKS["pgd"], run=far))
    subject, data = plain

    with pytest.raises(VerificationError, match="further than"):
        again(
            WorstAttack(parse_attack("pgd"), 0, ()),
            subject,
            data.batch(0, 9),
            data.labels[:9],
            THREAT,
        )
