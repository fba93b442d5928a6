"""BIM: PGD without a random start, and FGSM's two variants, which are never the same number."""

import pytest
import torch
from attacked_models import Linear, attacked, linf, pictures, small_convolution

from harness.attacks.attack import attack_spec, most_passes
from harness.evaluation.handle import Handle


def problem():
    model, images = Handle(small_convolution(), 10), pictures(20, 3, 8, 8)
    return model, images, model(images).logits.argmax(1)


@pytest.mark.parametrize("loss", ["ce", "margin", "dlr"])
def test_bim_is_pgd_from_the_clean_image_to_the_bit(loss):
    model, images, labels = problem()
    settings = {"steps": 6, "relative_step": 0.3, "loss": loss}
    ours = attacked(attack_spec("bim", **settings), model, images, labels, linf("3/255"))
    pgd = attack_spec("pgd", random_start=False, **settings)
    theirs = attacked(pgd, model, images, labels, linf("3/255"))
    assert 0 < int(ours.broken.sum()) < 20
    assert torch.equal(ours.adversarial, theirs.adversarial)
    assert torch.equal(ours.first_success, theirs.first_success)


def one_pixel(weight):
    """A single pixel at 1/2 of class 0; the loss of class 0 climbs with `weight`."""
    model = Linear(torch.tensor([[0.0], [weight]]), torch.tensor([9.0, 0.0]))
    return model, torch.full((1, 1, 1, 1), 0.5), torch.tensor([0])


def test_each_step_of_bim_has_its_share_of_epsilon_until_the_ball_ends():
    model, image, label = one_pixel(1.0)
    for steps, expected in ((1, 0.53), (2, 0.56), (3, 0.59), (4, 0.6), (5, 0.6)):
        spec = attack_spec("bim", steps=steps, relative_step=0.3)
        last = attacked(spec, model, image, label, linf("1/10"), drops_broken=False).last
        assert float(last) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("weight", "expected"), [(1.0, 0.6), (-1.0, 0.4)])
def test_plain_fgsm_makes_one_step_of_epsilon_up_the_loss(weight, expected):
    model, image, label = one_pixel(weight)
    search = attacked("fgsm", model, image, label, linf("1/10"))
    assert float(search.last) == pytest.approx(expected, abs=1e-6)


def test_random_start_fgsm_steps_from_a_uniform_point_and_is_projected():
    images = torch.full((400, 1, 1, 1), 0.5)
    model, labels = one_pixel(1.0)[0], torch.zeros(400, dtype=torch.long)
    spec = attack_spec("fgsm", random_start=True, relative_step=0.5)
    last = attacked(spec, model, images, labels, linf("1/10")).last.flatten()
    at_the_edge = (last - 0.6).abs() < 1e-6  # from the upper quarter of the ball
    assert 0.19 < float(at_the_edge.double().mean()) < 0.31
    assert float(last.min()) == pytest.approx(0.45, abs=0.005)
    full = attack_spec("fgsm", random_start=True)
    assert (attacked(full, model, images, labels, linf("1/10")).last > 0.499).all()


def test_the_variants_of_fgsm_have_hashes_and_costs_of_their_own():
    plain, random = attack_spec("fgsm"), attack_spec("fgsm", random_start=True)
    assert plain.hash != random.hash
    assert (most_passes(plain), most_passes(random)) == ((2, 1), (3, 1))
