"""Relational distillation against `frpat.md` section 10 and loops over pairs and triples."""

import pytest
import torch

from harness.errors import HarnessError
from harness.regularisers.relational_distillation import (
    RelationalDistillation,
    angles,
    cosine_difference,
    relative_distances,
)

TEACHER = torch.tensor([[1, 0], [0, 1], [1, 1]], dtype=torch.float64)
STUDENT = torch.tensor([[1, 0], [1, 1], [0, 1]], dtype=torch.float64)


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def batch_of(answered, teacher, student, **rest):
    return answered(
        [0] * len(teacher), teacher=(None, teacher), adversarial=(None, student), **rest
    )


def test_cosine_distances_differ_as_in_the_check_case(answered):
    batch = batch_of(answered, TEACHER, STUDENT)
    assert RelationalDistillation(weight=1.0)(batch).item() == pytest.approx(0.166667, abs=1e-6)
    assert RelationalDistillation(weight=20.0)(batch).item() == pytest.approx(20 / 6, abs=1e-5)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [((1.0, 0.0), 0.029437), ((0.0, 1.0), 0.037037), ((25.0, 50.0), 2.587783)],
)
def test_the_original_is_that_of_the_check_case(weights, expected, answered):
    loss = RelationalDistillation(
        relation="original", distance_weight=weights[0], angle_weight=weights[1]
    )
    assert loss(batch_of(answered, TEACHER, 2 * STUDENT)).item() == pytest.approx(
        expected, abs=1e-5
    )


def test_the_weight_follows_the_schedule(answered):
    batch = batch_of(answered, TEACHER, STUDENT, epoch=10)
    found = RelationalDistillation(weight=20.0, schedule="ramp")(batch).item()
    assert found == pytest.approx(20 * 0.462117 / 6, abs=1e-5)


def test_distances_and_angles_are_those_of_loops():
    features = random(5, 3)
    lengths = [[float((a - b).norm()) for b in features] for a in features]
    mean = sum(map(sum, lengths)) / 20
    for i in range(5):
        for j in range(5):
            assert relative_distances(features)[i, j].item() == pytest.approx(lengths[i][j] / mean)
            for k in range(5):
                if i in (j, k):
                    expected = 0.0
                else:
                    dot = float((features[j] - features[i]) @ (features[k] - features[i]))
                    expected = dot / (lengths[i][j] * lengths[i][k])
                assert angles(features)[i, j, k].item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("relation", ["cosine", "original"])
def test_gradients_are_those_of_the_value_and_spare_the_teacher(relation, answered):
    student = random(5, 3, seed=1).requires_grad_()
    teacher = random(5, 4).requires_grad_()
    loss = RelationalDistillation(relation=relation)
    loss(batch_of(answered, teacher, student)).backward()
    assert teacher.grad is None
    assert student.grad.abs().max() > 0
    assert torch.autograd.gradcheck(
        lambda features: loss(batch_of(answered, teacher, features)), (student,)
    )


@pytest.mark.parametrize("relation", ["cosine", "original"])
@pytest.mark.parametrize(
    "student", [torch.ones(4, 3), torch.zeros(4, 3), torch.eye(4, 3), torch.eye(3)[[0, 0, 1, 2]]]
)
def test_images_with_the_same_features_give_finite_gradients(relation, student, answered):
    student = student.double().requires_grad_()
    value = RelationalDistillation(relation=relation)(batch_of(answered, random(4, 3), student))
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()
    if relation == "original":
        assert student.grad.abs().max() < 1e3  # not the slope of a direction of no length


def test_one_image_has_no_relations_but_a_graph(answered):
    student = random(1, 3).requires_grad_()
    for relation in ("cosine", "original"):
        value = RelationalDistillation(relation=relation)(batch_of(answered, random(1, 3), student))
        assert value.item() == 0.0
        value.backward()


def test_equal_relations_cost_nothing():
    features = random(6, 4)
    assert cosine_difference(features, 3 * features).item() == pytest.approx(0.0, abs=1e-15)
    torch.testing.assert_close(relative_distances(features), relative_distances(3 * features))


def test_a_relation_that_does_not_exist_is_refused():
    with pytest.raises(HarnessError, match="Did you mean 'cosine'"):
        RelationalDistillation(relation="cosinus")
