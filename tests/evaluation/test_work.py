"""Work that any process can do: a checkpoint's subject, its own training loss, and failures."""

from dataclasses import replace

import pytest
import torch
from evaluated_subjects import reverse_attention_network
from torch.nn import functional

from harness.attacks.attack import attack_spec
from harness.attacks.surfaces import Points
from harness.data.digits import DIGITS
from harness.data.loading import load
from harness.errors import HarnessError
from harness.evaluation import work as work_module
from harness.evaluation.subject import load_subject
from harness.evaluation.third_party import added_record
from harness.evaluation.work import Work, do
from harness.identity import (
    CLEAN,
    CORRECT,
    Capabilities,
    CheckpointRecord,
    Failure,
    Job,
    Outcome,
    Runtime,
)
from harness.models.weights import write_weights

SHOWN = 4


@pytest.fixture
def trained(tmp_path):
    """A checkpoint of trades_ancra as training leaves it."""
    network = reverse_attention_network()
    name, sha256 = write_weights(network.state_dict(), tmp_path)
    capabilities = Capabilities(10, auxiliary=2, select=True, features=True, training_loss=True)
    record = CheckpointRecord(
        name="ancra",
        digest="d" * 64,
        kind="trained",
        dataset="digits",
        threat=DIGITS.threat,
        weights=name,
        weights_sha256=sha256,
        capabilities=capabilities,
        defense="trades_ancra",
        settings={"beta": 5.0, "auxiliary_weight": 3.0},
        architecture="small_preactresnet",
        architecture_settings={"width": 8},
    )
    return record, network.eval(), tmp_path


def test_a_trained_checkpoint_decides_as_its_network_did(trained):
    record, network, folder = trained
    subject = load_subject(record, folder, DIGITS)
    images = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, expected = subject.model(images), network(images)
    for one, other in zip(found.every_logits(), expected.every_logits(), strict=True):
        torch.testing.assert_close(one, other)


def test_the_training_loss_that_attacks_climb_is_the_formula_of_the_defense(trained):
    """TRADES per output under the label's gates; final + 3 x the mean of the auxiliary ones."""
    record, network, folder = trained
    subject = load_subject(record, folder, DIGITS)
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand(5, 1, 8, 8, generator=generator)
    candidate = (clean + 0.1 * torch.rand(5, 1, 8, 8, generator=generator)).clamp(0, 1)
    labels = torch.tensor([0, 3, 9, 1, 3])
    value = subject.training_loss.value(candidate, Points(clean, labels))

    def trades(first, second):
        divergence = functional.softmax(first, 1) * (
            functional.log_softmax(first, 1) - functional.log_softmax(second, 1)
        )
        return functional.cross_entropy(first, labels, reduction="none") + 5 * divergence.sum(1)

    with torch.no_grad():
        before = network(clean, select=labels).every_logits()
        after = network(candidate, select=labels).every_logits()
    losses = [trades(*pair) for pair in zip(before, after, strict=True)]
    expected = losses[0] + 3 * (losses[1] + losses[2]) / 2
    assert value.shape == (5,)
    torch.testing.assert_close(value.detach(), expected, rtol=1e-4, atol=1e-4)


def test_the_training_loss_announces_its_passes(trained):
    record, _, folder = trained
    subject = load_subject(record, folder, DIGITS)
    passes = []
    network = subject.training_loss.value.network
    network.register_forward_hook(lambda *_: passes.append(1))
    images = torch.rand(3, 1, 8, 8)
    subject.training_loss.value(images, Points(images, torch.tensor([0, 1, 2])))
    assert len(passes) == subject.training_loss.forwards
    candidate = images.clone().requires_grad_()
    value = subject.training_loss.value(candidate, Points(images, torch.tensor([0, 1, 2])))
    (gradient,) = torch.autograd.grad(value.sum(), candidate)
    assert gradient.shape == images.shape
    assert not network.training


def test_weights_of_another_recipe_are_a_sentence(trained):
    record, _, folder = trained
    with pytest.raises(HarnessError, match="the weights of 'ancra' do not fit its recipe"):
        load_subject(replace(record, architecture_settings={"width": 4}), folder, DIGITS)


def work_on(record, folder, attack=CLEAN, last=SHOWN):
    data = load("digits", "test")
    job = Job(
        record.digest, "digits", data.sha256, record.threat, attack, CORRECT, 0, "float32", 0, last
    )
    return Work(
        job=job,
        record=record,
        attackable=(True,) * last,
        dataset="digits",
        folder=folder,
        data_dir=None,
        runtime=Runtime(),
    )


@pytest.fixture(autouse=True)
def _fresh_process():
    """As in a new worker: no subject of another test in the cache."""
    work_module._subject.cache_clear()


def test_work_is_done_from_plain_values(trained):
    record, network, folder = trained
    outcome = do(work_on(record, folder))
    assert isinstance(outcome, Outcome)
    data = load("digits", "test")
    with torch.no_grad():
        wrong = network(data.batch(0, SHOWN)).logits.argmax(1) != data.labels[:SHOWN]
    assert outcome.broken == tuple(wrong.tolist())
    spec = attack_spec("pgd", steps=2, surface="training_loss")
    assert isinstance(do(work_on(record, folder, spec)), Outcome)


MODELS = {
    "raises": "raise RuntimeError('out of order')",
    "nan": "return images.flatten(1)[:, :10] * float('nan')",
    "shape": "return images.flatten(1)[:, :3]",
    "type": "return None",
    "no_gradient": "return images.detach().flatten(1)[:, :10]",
}


@pytest.mark.parametrize(
    ("body", "attack", "status"),
    [
        ("raises", CLEAN, "raised"),
        ("nan", CLEAN, "non_finite"),
        ("shape", CLEAN, "wrong_shape"),
        ("type", CLEAN, "wrong_type"),
        ("no_gradient", attack_spec("fgsm"), "no_gradient"),
    ],
)
def test_a_model_that_misbehaves_later_is_a_failure_and_the_campaign_goes_on(
    tmp_path, body, attack, status
):
    good = "return images.flatten(1)[:, :10]"
    source = (
        "from pathlib import Path\nfrom torch import nn\n"
        "class Net(nn.Module):\n    def forward(self, images):\n"
        f"        if Path({str(tmp_path / 'later')!r}).exists():\n            {MODELS[body]}\n"
        f"        {good}\n"
    )
    path, weights = tmp_path / "model.py", tmp_path / "weights.pt"
    path.write_text(source)
    torch.save({}, weights)
    record = added_record("theirs", f"{path}:Net", weights, DIGITS, tmp_path)
    (tmp_path / "later").touch()
    failure = do(work_on(record, tmp_path, attack))
    assert isinstance(failure, Failure)
    assert failure.status == status
    assert failure.attack == attack.label
    assert failure.message


def test_a_checkpoint_that_cannot_be_loaded_is_a_failure(trained):
    record, _, folder = trained
    (folder / record.weights).unlink()
    failure = do(work_on(record, folder))
    assert (failure.status, failure.checkpoint) == ("not_loaded", record.digest)
    assert "are not here" in failure.message


def test_an_attack_that_leaves_the_ball_is_a_failure_and_not_a_result(trained, monkeypatch):
    record, _, folder = trained
    monkeypatch.setattr(
        "harness.evaluation.evaluate.run_attack",
        lambda spec, search: search.adversarial.zero_(),
    )
    failure = do(work_on(record, folder, attack_spec("fgsm")))
    assert failure.status == "violation"
