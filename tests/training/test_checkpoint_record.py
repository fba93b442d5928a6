"""A finished run becomes a record that loads back to the same function."""

import dataclasses

import pytest
import torch

from harness.catalogue import DEFENSES
from harness.data.datasets import DATASETS
from harness.errors import HarnessError
from harness.evaluation.subject import load_subject
from harness.models.weights import read_weights
from harness.training.checkpoint import checkpoint_record, model_digest
from harness.training.loop import train
from harness.training.work import TrainingWork, do

DIGITS = DATASETS["digits"]
EVERY_DEFENSE = sorted(DEFENSES)


@pytest.mark.parametrize("defense", EVERY_DEFENSE)
def test_two_steps_of_every_defense_load_back_to_identical_logits(defense, few, tiny, tmp_path):
    fewer = {"replays": 2} if "replays" in DEFENSES[defense].settings else {}
    request, data = tiny(defense, settings={"epochs": 1, **fewer}), few(64)
    trained = train(request, data, tmp_path)
    record = checkpoint_record(request, trained, data, tmp_path)
    subject = load_subject(record, tmp_path, DIGITS)
    images = data.images[:32].float() / 255
    network = trained.players.network.to(memory_format=torch.contiguous_format)  # other kernels
    with torch.no_grad():
        before = network.eval()(images)
        after = subject.model(images)
    for one, other in zip(before.every_logits(), after.every_logits(), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(before.features, after.features)
    assert (subject.training_loss is not None) == record.capabilities.training_loss


@pytest.fixture
def recorded(few, tiny, tmp_path):
    request, data = tiny("trades_frpat", settings={"epochs": 1}), few(64)
    trained = train(request, data, tmp_path)
    return request, trained, data, checkpoint_record(request, trained, data, tmp_path)


def test_the_record_says_what_was_trained(recorded):
    request, trained, data, record = recorded
    assert (record.name, record.kind, record.dataset) == (request.name, "trained", "digits")
    assert (record.defense, record.seed, record.scale) == ("trades_frpat", 0, "smoke")
    assert record.recipe == request.recipe.to_json()
    assert record.settings == request.settings
    assert record.training["run"] == request.digest(data)
    assert record.curves["loss"] == tuple(trained.progress.losses)
    assert record.capabilities.classes == 10


def test_the_teacher_is_neither_stored_nor_counted(recorded, tmp_path):
    _, trained, _, record = recorded
    assert (
        read_weights(tmp_path / record.weights).keys()
        == trained.players.network.state_dict().keys()
    )
    assert record.parameters == sum(p.numel() for p in trained.players.network.parameters())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("defense", "trades"),
        ("settings", {"beta": 1.0}),
        ("architecture", "resnet18"),
        ("architecture_settings", {"width": 5}),
        ("dataset", dataclasses.replace(DIGITS, name="others")),
    ],
)
def test_a_model_is_its_weights_and_what_shapes_its_function(recorded, field, value):
    request = recorded[0]
    other = dataclasses.replace(request, **{field: value})
    assert model_digest(other, "a" * 64) != model_digest(request, "a" * 64)
    assert model_digest(request, "b" * 64) != model_digest(request, "a" * 64)


@pytest.mark.parametrize(("field", "value"), [("name", "x"), ("seed", 5), ("scale", "reduced")])
def test_what_only_led_to_the_weights_is_no_part_of_the_model(recorded, field, value):
    request = recorded[0]
    other = dataclasses.replace(request, **{field: value})
    assert model_digest(other, "a" * 64) == model_digest(request, "a" * 64)


def test_changed_weights_are_refused_and_training_again_mends_them(recorded, tmp_path):
    request, trained, data, record = recorded
    path = tmp_path / record.weights
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(HarnessError, match="changed or damaged"):
        load_subject(record, tmp_path, DIGITS)
    assert checkpoint_record(request, trained, data, tmp_path).weights == record.weights
    load_subject(record, tmp_path, DIGITS)


def test_work_trains_by_name_and_forgets_the_unfinished_state(tmp_path):
    settings = {"width": 2, "epochs": 1, "batch_size": 600, "inner_steps": 1}
    record = do(TrainingWork("trades", "digits", tmp_path, "smoke", settings=settings))
    assert [path.name for path in tmp_path.iterdir()] == [record.weights]
    assert len(record.curves["loss"]) == 1
    assert record.training["exact_images"] == "true"
