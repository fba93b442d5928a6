"""PGD on the C&W margin: where the climb ends, and that no image switches another one off."""

import pytest
import torch
from attacked_models import Linear, attacked, linf, pictures, small_convolution

from harness.attacks.attack import attack_spec
from harness.errors import HarnessError
from harness.evaluation.handle import Handle


def line(bias=0.5):
    """Two classes on one pixel: the margin of class 0 is 10 times the pixel's way above 1/2."""
    model = Linear(torch.tensor([[0.0], [10.0]]), torch.tensor([bias, -5.0]))
    return model, torch.full((1, 1, 1, 1), 0.5), torch.tensor([0])


@pytest.mark.parametrize(
    ("confidence", "reached"), [({}, 1.5), ({"confidence": 0.0}, 0.0), ({"confidence": 0.7}, 0.7)]
)
def test_the_margin_is_climbed_up_to_the_confidence_and_without_end_by_default(confidence, reached):
    model, image, label = line()
    spec = attack_spec("cw_linf", steps=8, **confidence)
    search = attacked(spec, model, image, label, linf("1/5"), drops_broken=False)
    assert search.broken.all()
    assert float(search.loss_best) == pytest.approx(reached, abs=1e-5)


@pytest.mark.parametrize("confidence", [0.0, 1.0])
def test_a_rectified_image_stands_still_once_its_margin_is_above_the_confidence(confidence):
    model, labels = line()[0], torch.zeros(40, dtype=torch.long)
    images, looks = torch.full((40, 1, 1, 1), 0.5), []

    def recorded(candidates, *, select=None):
        looks.append(10 * (candidates.detach().flatten() - 0.5) - 0.5)
        return model(candidates)

    spec = attack_spec("cw_linf", steps=40, relative_step=0.1, confidence=confidence)
    attacked(spec, recorded, images, labels, linf("1/5"), drops_broken=False)
    start, end = looks[1], looks[-1]
    beyond = start > confidence
    assert 0 < int(beyond.sum()) < 40
    assert torch.equal(end[beyond], start[beyond])
    assert (end[~beyond] >= confidence).all()
    assert (end[~beyond] <= confidence + 0.2 + 1e-5).all()  # one step is worth 0.2


def test_the_confidence_changes_what_is_climbed_and_never_what_breaks():
    model, images = Handle(small_convolution(), 10), pictures(30, 3, 8, 8)
    labels = model(images).logits.argmax(1)
    free, rectified = (
        attacked(attack_spec("cw_linf", steps=8, **how), model, images, labels, linf("4/255"))
        for how in ({"confidence": 5.0}, {"confidence": 0.0})
    )
    assert 0 < int(free.broken.sum()) < 30
    assert attack_spec("cw_linf", confidence=5.0).hash != attack_spec("cw_linf").hash
    assert int((free.broken ^ rectified.broken).sum()) <= 1  # the starts differ with the hash
    standing = ~free.broken & ~rectified.broken
    assert (free.loss_best[standing] < 0).all()


def test_broken_batch_mates_do_not_switch_off_an_image_that_stands():
    """The published script rectifies the sum over the batch; ours every image alone."""
    model = Linear(torch.tensor([[0.0], [10.0]]), torch.tensor([0.5, -5.0]))
    images = torch.tensor([0.5, 0.9, 0.9, 0.9]).reshape(4, 1, 1, 1)
    labels = torch.zeros(4, dtype=torch.long)
    spec = attack_spec("cw_linf", steps=20, confidence=0.0)
    search = attacked(spec, model, images, labels, linf("1/10"), drops_broken=False)
    assert search.first_success.tolist()[1:] == [0, 0, 0]
    assert search.broken.all()


def test_a_negative_confidence_is_refused():
    with pytest.raises(HarnessError, match="confidence must lie in"):
        attack_spec("cw_linf", confidence=-1.0)
