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
    for cached in (work_module._subject, work_module._surrogate, work_module.guides):
        cached.cache_clear()


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


def linear_model(folder, name, weight):
    """A checkpoint of a linear model [10, 64] trained elsewhere, that decides by its weight."""
    path, weights = folder / "linear.py", folder / f"{name}.pt"
    path.write_text(
        "from torch import nn\n"
        "def build():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=False))\n"
    )
    torch.save({"1.weight": weight}, weights)
    return added_record(name, f"{path}:build", weights, DIGITS, folder)


def random_weight(seed):
    return torch.randn(10, 64, generator=torch.Generator().manual_seed(seed))


def test_what_a_surrogate_loses_to_is_tried_on_the_target(tmp_path):
    """A surrogate of the same weights transfers everything, the opposite one nothing new."""
    target = linear_model(tmp_path, "target", random_weight(0))
    twin = replace(target, name="twin", digest="0123456789ab" + "0" * 52)
    opposite = linear_model(tmp_path, "opposite", -random_weight(0))

    def broken(record=None):
        surface = f"surrogate({record.digest[:12]})" if record else "logits"
        spec = attack_spec("pgd", steps=3, surface=surface, random_start=False)
        work = replace(
            work_on(target, tmp_path, spec, last=30), surrogates=(record,) * bool(record)
        )
        outcome = do(work)
        assert isinstance(outcome, Outcome), outcome
        return outcome.broken

    wrong = do(work_on(target, tmp_path, last=30)).broken
    assert broken(twin) == broken()
    assert sum(broken()) > sum(wrong)
    assert broken(opposite) == wrong


def test_a_surrogate_that_is_not_given_is_a_failure_that_names_it(tmp_path):
    target = linear_model(tmp_path, "target", random_weight(0))
    spec = attack_spec("pgd", steps=1, surface="surrogate(0123456789ab)")
    failure = do(work_on(target, tmp_path, spec))
    assert failure.status == "not_loaded"
    assert "surrogate(0123456789ab)" in failure.message


def test_two_surrogates_of_one_target_are_told_apart_in_one_process(tmp_path):
    """Both are cached; the second must not be answered by the first."""
    target = linear_model(tmp_path, "target", random_weight(0))
    others = [linear_model(tmp_path, f"other{seed}", random_weight(seed)) for seed in (1, 2)]
    found = []
    for other in (*others, others[0]):
        spec = attack_spec("pgd", steps=3, surface=f"surrogate({other.digest[:12]})")
        work = replace(work_on(target, tmp_path, spec, last=30), surrogates=(other,))
        found.append([round(value, 3) for value in do(work).columns["loss_best"][:5]])
    assert found[0] == found[2] != found[1]


def test_feature_attacks_are_given_training_images_and_nothing_else_is(trained, monkeypatch):
    record, _, folder = trained
    given = []
    search = work_module.evaluate

    def watched(*arguments):
        given.append(arguments[-1])
        return search(*arguments)

    monkeypatch.setattr(work_module, "evaluate", watched)
    feature = attack_spec("feature_attack", guides=1, steps=1)
    for spec in (CLEAN, attack_spec("fgsm"), feature):
        assert isinstance(do(work_on(record, folder, spec)), Outcome)
    assert [aids.guides is None for aids in given] == [True, True, False]
    data = load("digits", "train")
    chosen = work_module.spread(len(data), work_module.GUIDES)
    assert torch.equal(given[-1].guides.labels, data.labels[chosen])
    assert torch.equal(given[-1].guides.images, data.images[chosen].float() / 255)


@pytest.mark.parametrize(("length", "most"), [(10, 3), (1297, 2000), (100_000, 2000), (7, 7)])
def test_guides_are_spread_evenly_over_a_split_that_may_be_sorted_by_class(length, most):
    chosen = work_module.spread(length, most)
    gaps = chosen.diff()
    assert len(chosen) == min(length, most)
    assert chosen[0] == 0
    assert chosen[-1] < length
    assert gaps.max() - gaps.min() <= 1
    assert length - chosen[-1] <= gaps.min() + 1


def test_without_training_images_a_feature_attack_is_a_failure_with_a_sentence(
    trained, monkeypatch
):
    record, _, folder = trained

    def nothing(name, split, **_):
        if split == "train":
            raise HarnessError(f"{name} has no train split")
        return load(name, split)

    monkeypatch.setattr(work_module, "load", nothing)
    failure = do(work_on(record, folder, attack_spec("feature_attack", guides=1, steps=1)))
    assert (failure.status, failure.message) == ("not_loaded", "digits has no train split")
