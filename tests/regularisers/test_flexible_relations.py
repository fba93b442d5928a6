"""Flexible relations against `frpat.md` section 10, and what they must ignore."""

import math

import pytest
import torch

from harness.errors import HarnessError
from harness.regularisers.flexible_relations import (
    FlexibleRelations,
    cosine_distances,
    gradient_ratio,
    is_measured,
    nearest_distances,
    relation_divergence,
    relations,
)

TEACHER = torch.tensor([[1, 0], [0, 1], [1, 1]], dtype=torch.float64)
STUDENT = torch.tensor([[1, 0], [1, 1], [0, 1]], dtype=torch.float64)
TEACHER_4 = torch.tensor([[1, 0], [1, 0.5], [0, 1], [-1, 0.2]], dtype=torch.float64)
STUDENT_4 = torch.tensor([[1, 0.1], [0.2, 1], [0.1, 1], [-1, 1]], dtype=torch.float64)


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def by_the_letter(teacher, student):
    """Equations 6 to 8 with loops."""

    def table(features):
        count = len(features)
        unit = [row / max(float(row.norm()), 1e-12) for row in features]
        d = [[1 - float(unit[i] @ unit[j]) for j in range(count)] for i in range(count)]
        p = {}
        for j in range(count):
            rho = min(d[j][k] for k in range(count) if k != j)
            a = {i: 2 - (d[i][j] - rho) for i in range(count) if i != j}
            for i, value in a.items():
                p[i, j] = value / sum(a.values())
        return p

    p, q = table(teacher), table(student)
    return sum(
        a * math.log(a / b) + (1 - a) * math.log((1 - a) / (1 - b))
        for a, b in ((p[pair], q[pair]) for pair in p)
    )


def test_columns_of_the_first_example():
    p, q = relations(TEACHER), relations(STUDENT)
    assert p[1:, 0].tolist() == pytest.approx([0.392631, 0.607369], abs=1e-6)
    assert p[:2, 2].tolist() == pytest.approx([0.5, 0.5], abs=1e-12)
    assert q[[0, 2], 1].tolist() == pytest.approx([0.5, 0.5], abs=1e-12)


def test_affinities_follow_the_distances_of_the_first_example():
    # d01 = 1 and d02 = d12 = rho = 0.292893, so the affinities of column 0 are 2 - (d - rho) and 2
    affinity = torch.tensor([2 - (1 - 0.292893), 2.0])
    torch.testing.assert_close(
        relations(TEACHER)[1:, 0].float(), affinity / affinity.sum(), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize(
    ("features", "nearest"),
    [
        (TEACHER, [0.292893] * 3),
        (TEACHER_4, [0.105573, 0.105573, 0.552786, 0.803884]),
        (STUDENT_4, [0.707286, 0.004771, 0.004771, 0.366762]),
    ],
)
def test_nearest_distances_are_those_of_both_examples(features, nearest):
    assert nearest_distances(features).tolist() == pytest.approx(nearest, abs=1e-6)


def test_distances_of_the_first_example():
    distances = cosine_distances(TEACHER)
    assert [distances[i, j].item() for i, j in ((0, 1), (0, 2), (1, 2))] == pytest.approx(
        [1, 0.292893, 0.292893], abs=1e-6
    )


@pytest.mark.parametrize("features", [TEACHER, STUDENT_4, random(9, 5)])
def test_every_column_sums_to_one_and_nobody_is_its_own_neighbour(features):
    found = relations(features)
    torch.testing.assert_close(found.sum(0), torch.ones(len(features), dtype=torch.float64))
    assert torch.equal(found.diagonal(), torch.zeros(len(features), dtype=torch.float64))
    assert (found >= 0).all()


@pytest.mark.parametrize(
    ("teacher", "student", "total", "per_row"),
    [(TEACHER, STUDENT, 0.281047, 0.093682), (TEACHER_4, STUDENT_4, 0.618083, 0.154521)],
)
def test_the_divergence_is_the_plain_sum_of_the_check_cases(teacher, student, total, per_row):
    value = relation_divergence(teacher, student).item()
    assert value == pytest.approx(total, abs=1e-6)
    assert value / len(teacher) == pytest.approx(per_row, abs=1e-6)


def test_the_divergence_is_that_of_the_equations_with_loops():
    teacher, student = random(7, 4).relu(), random(7, 3, seed=1).relu()
    value = relation_divergence(teacher, student).item()
    assert value == pytest.approx(by_the_letter(teacher, student), abs=1e-10)


def test_equal_relations_have_no_divergence_and_no_gradient():
    student = TEACHER_4.clone().requires_grad_()
    value = relation_divergence(TEACHER_4, student)
    value.backward()
    assert value.item() == pytest.approx(0.0, abs=1e-14)
    assert student.grad.abs().max() < 1e-12


def test_the_divergence_is_never_negative():
    values = [
        relation_divergence(random(6, 3, seed=s), random(6, 3, seed=s + 99)) for s in range(9)
    ]
    assert min(values) >= 0


def test_lengths_of_the_features_change_nothing():
    value = relation_divergence(TEACHER, STUDENT)
    torch.testing.assert_close(relation_divergence(TEACHER, 7 * STUDENT), value)
    lengths = torch.tensor([[0.1], [3.0], [50.0]], dtype=torch.float64)
    torch.testing.assert_close(relation_divergence(lengths * TEACHER, STUDENT), value)


def test_feature_widths_may_differ_and_their_order_does_not_count():
    teacher, student = random(5, 8), random(5, 3, seed=1)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(
        relation_divergence(teacher, student), relation_divergence(teacher[order], student[order])
    )
    torch.testing.assert_close(
        relation_divergence(teacher, student), relation_divergence(teacher.flip(1), student.flip(1))
    )


def test_gradient_is_that_of_the_value():
    student = random(6, 4, seed=2).requires_grad_()
    teacher = random(6, 5)
    assert torch.autograd.gradcheck(lambda s: relation_divergence(teacher, s), (student,))


def test_two_images_have_no_divergence_and_a_finite_gradient():
    student = random(2, 4, seed=2).requires_grad_()
    value = relation_divergence(random(2, 4), student)
    value.backward()
    assert value.item() == 0.0
    assert student.grad.isfinite().all()


def test_one_image_has_no_divergence_but_a_graph():
    student = random(1, 4).requires_grad_()
    value = relation_divergence(random(1, 4), student)
    value.backward()
    assert value.item() == 0.0
    assert torch.count_nonzero(student.grad) == 0


@pytest.mark.parametrize(
    "student",
    [torch.ones(4, 3), torch.eye(4, 3), torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])],
    ids=["equal", "one of zero length", "opposite"],
)
def test_degenerate_features_give_finite_values_and_gradients(student):
    student = student.clone().requires_grad_()
    value = relation_divergence(random(4, 3).float(), student)
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()


def batch_of(answered, teacher, student, **rest):
    return answered(
        [0] * len(teacher),
        teacher=(None, teacher),
        adversarial=(None, student),
        **rest,
    )


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 0.618083),
        ({"reduction": "row"}, 0.154521),
        ({"reduction": "pair"}, 0.154521 / 4),
        ({"reduction": "row", "shared_rho": True}, 0.126720),
        ({"weight": 20.0}, 20 * 0.618083),
        ({"detach_rho": True}, 0.618083),
    ],
)
def test_every_reading_has_the_value_of_the_second_example(settings, expected, answered):
    loss = FlexibleRelations(**{"weight": 1.0, **settings})
    batch = batch_of(answered, TEACHER_4, STUDENT_4, step=1)
    assert loss(batch).item() == pytest.approx(expected, abs=5e-6 * loss.weight)


def test_the_half_without_complements_is_that_of_the_second_example():
    p, q = (relations(features) for features in (TEACHER_4, STUDENT_4))
    inside = ~torch.eye(4, dtype=torch.bool)
    half = (p * (p / q).log())[inside].sum() / 4
    assert half.item() == pytest.approx(0.109175, abs=1e-6)


@pytest.mark.parametrize("shared", [False, True])
def test_detached_nearest_distances_change_the_gradient_and_nothing_else(shared):
    student = random(6, 4, seed=2).requires_grad_()
    teacher = random(6, 5)
    gradients = []
    for detach in (False, True):
        value = relation_divergence(teacher, student, shared_rho=shared, detach_rho=detach)
        gradients.append(torch.autograd.grad(value, student)[0])
    assert torch.equal(*gradients) == shared  # the teacher's carry none anyway


def test_opposite_images_and_a_teacher_s_nearest_distance_of_zero_stay_finite():
    student = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], requires_grad=True)
    value = relation_divergence(torch.ones(2, 3), student, shared_rho=True)
    value.backward()
    assert value.item() == 0.0
    assert student.grad.isfinite().all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reduction": "rows"}, "Did you mean 'row'?"),
        ({"schedule": "rampe"}, "Did you mean 'ramp'?"),
    ],
)
def test_a_reading_that_does_not_exist_is_refused(settings, message):
    with pytest.raises(HarnessError, match=message.replace("?", r"\?")):
        FlexibleRelations(**settings)


@pytest.mark.parametrize(
    ("epochs", "measured"),
    [(100, [1, 10, 50]), (110, [1, 10, 50]), (20, [1, 2, 10]), (3, [1, 2]), (1, [1])],
)
def test_the_gradient_is_measured_where_epochs_1_10_and_50_of_100_fall(epochs, measured, answered):
    for step in (0, 1):
        found = [
            epoch
            for epoch in range(1, epochs + 1)
            if is_measured(answered([0], epoch=epoch, epochs=epochs, step=step))
        ]
        assert found == ([] if step else measured)


def test_the_measured_ratio_is_that_of_gradients_at_the_features(answered):
    batch = batch_of(answered, TEACHER_4, STUDENT_4)
    FlexibleRelations(weight=7.0)(batch)
    measured = batch.measures["relation_gradient_ratio"]

    weight, step = batch.network.head.weight.detach(), 1e-6

    def slope(loss):
        found = torch.zeros_like(STUDENT_4)
        for place in range(found.numel()):
            move = torch.zeros(found.numel(), dtype=torch.float64)
            move[place] = step
            move = move.reshape(found.shape)
            found.view(-1)[place] = (loss(STUDENT_4 + move) - loss(STUDENT_4 - move)) / (2 * step)
        return found.norm()

    accuracy = slope(lambda f: -(f @ weight.T).log_softmax(1)[:, 0].mean())
    relation = slope(lambda f: relation_divergence(TEACHER_4, f))
    assert measured.item() == pytest.approx((relation / accuracy).item(), rel=1e-5)


def test_measuring_leaves_the_gradient_of_the_loss_alone(answered):
    gradients = []
    for step in (0, 1):
        student = STUDENT_4.clone().requires_grad_()
        batch = batch_of(answered, TEACHER_4, student, step=step)
        FlexibleRelations()(batch).backward()
        assert ("relation_gradient_ratio" in batch.measures) == (step == 0)
        assert batch.network.head.weight.grad is None
        gradients.append(student.grad)
    assert torch.equal(*gradients)


def test_a_loss_without_gradient_measures_zero(answered):
    batch = batch_of(answered, TEACHER_4, STUDENT_4)
    assert gradient_ratio(batch, lambda features: 0.0 * features.sum()).item() == 0.0
