"""Passes at bfloat16: losses and single gradients stay float32."""

import pytest
import torch

from harness.batch import in_float32
from harness.outputs import Outputs
from harness.training.loop import Training, train


@pytest.fixture
def batch(few, tiny, tmp_path):
    run = Training(
        tiny("trades_ancra", settings={"precision": "bfloat16"}), few(64), tmp_path, "cpu"
    )
    return run._batch(0, 0, run.order(0))


def test_every_output_is_float32_and_rounded(batch):
    batch.network.eval()
    rough = batch.answers(batch.images, batch.labels, select=batch.labels)
    exact = batch.answers(batch.images, batch.labels, select=batch.labels, exact=True)
    assert rough.count == exact.count == 3
    for k in range(3):
        assert rough.deployed(k).dtype == exact.deployed(k).dtype == torch.float32
        assert not torch.equal(rough.deployed(k), exact.deployed(k))
        torch.testing.assert_close(rough.deployed(k), exact.deployed(k), rtol=0.1, atol=0.1)
    assert rough.features.dtype == torch.float32


def test_an_exact_pass_has_the_bits_of_a_float32_run(batch):
    batch.network.eval()
    exact = batch.answers(batch.images, batch.labels, select=None, exact=True)
    batch.precision = "float32"
    plain = batch.answers(batch.images, batch.labels, select=None)
    assert torch.equal(exact.deployed(), plain.deployed())


def test_optional_outputs_are_converted_where_they_are():
    half = torch.ones(2, 3, dtype=torch.bfloat16)
    full = in_float32(Outputs(half, (half,), half, 15.0, (half,), half))
    every = [full.logits, *full.auxiliary, full.features, *full.vectors, full.gated]
    assert {one.dtype for one in every} == {torch.float32}
    assert full.logit_scale == 15.0
    bare = in_float32(Outputs(half))
    assert (bare.features, bare.gated, bare.auxiliary) == (None, None, ())


@pytest.mark.parametrize("defense", ["pgd_at", "trades_he", "trades_ancra", "trades_frpat"])
def test_a_run_at_bfloat16_stays_finite_and_differs(defense, few, tiny, tmp_path):
    losses = []
    for precision in ("float32", "bfloat16"):
        request = tiny(defense, settings={"precision": precision, "epochs": 1})
        trained = train(request, few(64), tmp_path)
        assert all(p.dtype == torch.float32 for p in trained.players.network.parameters())
        losses += trained.progress.losses
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.1)
