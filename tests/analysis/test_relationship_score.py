from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from tiny_exhibits import Pixels, exhibit_of, learnt, record_of

from harness.analysis import relationship_score as module
from harness.analysis.analysis import ANALYSES
from harness.analysis.exhibit import PGD_20, pgd_20
from harness.analysis.relationship_score import relationship_score, support_set, vote
from harness.errors import HarnessError
from harness.identity import Capabilities


def test_the_published_check_case_is_met():
    support = torch.tensor([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9], [0.2, 0.8]])
    labels = torch.tensor([0, 0, 1, 1, 0])
    queries = torch.tensor([[1, 0.2], [0.3, 1]])

    assert vote(queries, support, labels, (1, 3, 5)).tolist() == [[0, 0], [0, 1], [0, 0]]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_votes_of_two_classes_are_those_of_scikit_learn(metric):
    draws = torch.Generator().manual_seed(0)
    support, queries = torch.randn(90, 7, generator=draws), torch.randn(60, 7, generator=draws)
    labels = torch.randint(0, 2, (90,), generator=draws)
    counts = (1, 5, 31)

    found = vote(queries + 3, support + 3, labels, counts, metric=metric)

    for k, row in zip(counts, found, strict=True):
        other = KNeighborsClassifier(k, metric=metric, algorithm="brute")
        other.fit((support + 3).double().numpy(), labels.numpy())
        assert row.tolist() == other.predict((queries + 3).double().numpy()).tolist()


def _slowly(query, support, labels, k):
    """The rules in plain Python: nearest first, then place; most votes, nearest sum, class."""
    distance = [float(np.sqrt(((query - one) ** 2).sum())) for one in support]
    voters = sorted(range(len(support)), key=lambda i: (distance[i], i))[:k]
    classes = {int(labels[i]) for i in voters}
    own = {c: [distance[i] for i in voters if labels[i] == c] for c in classes}
    return min(classes, key=lambda c: (-len(own[c]), sum(own[c]), c))


@pytest.mark.parametrize("block", [1, 2**24])
def test_ties_follow_the_rules_and_blocks_change_nothing(monkeypatch, block):
    draws = torch.Generator().manual_seed(2)
    half = torch.randint(-2, 3, (40, 2), generator=draws).float()
    support = torch.cat([half, -half])  # whole numbers around zero: distances are exact
    labels = torch.randint(0, 6, (80,), generator=draws)
    queries = torch.randint(-2, 3, (50, 2), generator=draws).float()
    monkeypatch.setattr(module, "_LARGEST_BLOCK", block)

    found = vote(queries, support, labels, (2, 4, 9), metric="euclidean")

    for k, row in zip((2, 4, 9), found, strict=True):
        slow = [_slowly(q, support.numpy(), labels.numpy(), k) for q in queries.numpy()]
        assert row.tolist() == slow


def test_cosine_does_not_see_the_length_of_a_feature_and_euclidean_does():
    support = torch.tensor([[1.0, 0.1], [0.0, 9.0]])
    query, labels = torch.tensor([[0.2, 1.0]]), torch.tensor([0, 1])

    assert vote(query, support, labels, (1,)).tolist() == [[1]]
    assert vote(query, support, labels, (1,), metric="euclidean").tolist() == [[0]]


def test_an_unknown_metric_is_refused():
    with pytest.raises(HarnessError, match="no metric named 'manhattan'"):
        vote(torch.ones(1, 2), torch.ones(1, 2), torch.zeros(1).long(), (1,), metric="manhattan")


def test_every_training_image_votes_as_it_is_and_attacked():
    exhibit = exhibit_of(Pixels())
    support, labels = support_set(exhibit)
    images, classes = learnt()

    assert support.shape == (80, 64)
    assert labels.tolist() == classes.tolist() * 2
    assert torch.equal(support[:40], images.flatten(1).float() / 255)
    given = (support[:40].view(images.shape), classes, range(40), exhibit.threat, 0)
    attacked = pgd_20(exhibit.model, *given, split="train").images
    assert torch.equal(support[40:], attacked.flatten(1))
    moved = (support[40:] - support[:40]).abs().amax(1)
    assert (moved <= 0.05 + 1e-6).all()
    assert (moved > 0.02).all()


def test_scores_are_those_of_another_implementation_on_the_same_features():
    exhibit = exhibit_of(Pixels())
    clean, attacked = relationship_score(exhibit)
    support, labels = support_set(exhibit)

    assert (clean.on, attacked.on) == ("clean", PGD_20.label)
    assert clean.values["k"] == [5, 30, 50]
    assert clean.values["support"] == (80,)
    for view, reading in ((exhibit.clean, clean), (exhibit.pgd_20, attacked)):
        other = KNeighborsClassifier(5, metric="cosine", algorithm="brute").fit(support, labels)
        score = other.score(view.images.flatten(1), exhibit.labels)
        assert reading.values["cosine"][0] == pytest.approx(score, abs=1 / 24)  # ties differ


def test_without_features_training_images_or_certainty_it_is_not_run():
    entry = ANALYSES["relationship_score"]
    no_features = exhibit_of(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3)))
    (reading,) = entry.read(no_features)
    (elsewhere,) = entry.read(exhibit_of(Pixels(), training=None))
    is_random = record_of(capabilities=Capabilities(3, features=True, is_random=True))
    (random,) = entry.read(exhibit_of(Pixels(), record=is_random))

    assert (reading.on, reading.values) == ("clean", {})
    assert reading.note.startswith("not run: 'tiny' returns no features")
    assert "harness data fetch digits" in elsewhere.note
    assert "the model is random" in random.note


def test_k_beyond_the_support_is_left_out():
    few = learnt(9)
    found = relationship_score(replace(exhibit_of(Pixels()), training=lambda: few))

    assert next(iter(found)).values["k"] == [5]
