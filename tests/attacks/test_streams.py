"""Random numbers belong to an image, not to its place in a batch."""

import pytest
import torch

from harness.attacks.streams import Streams, generator

ALL = torch.arange(4)


def draw(streams, positions=ALL, *, restart=0, purpose="start"):
    return streams.uniform(positions, (2, 3), restart=restart, purpose=purpose)


def test_draws_follow_the_image_through_any_order_and_any_batch():
    whole = draw(Streams(0, "a", [10, 11, 12, 13]))
    assert torch.equal(draw(Streams(0, "a", [13, 11, 10, 12])), whole[[3, 1, 0, 2]])
    assert torch.equal(draw(Streams(0, "a", [12]), torch.tensor([0])), whole[2:3])
    assert torch.equal(draw(Streams(0, "a", [10, 11, 12, 13]), torch.tensor([2, 0])), whole[[2, 0]])


@pytest.mark.parametrize(
    "other",
    [
        draw(Streams(1, "a", [0, 1, 2, 3])),
        draw(Streams(0, "b", [0, 1, 2, 3])),
        draw(Streams(0, "a", [4, 5, 6, 7])),
        draw(Streams(0, "a", [0, 1, 2, 3]), restart=1),
        draw(Streams(0, "a", [0, 1, 2, 3]), purpose="colours"),
    ],
    ids=["seed", "attack", "image", "restart", "purpose"],
)
def test_draws_differ_with_every_part_of_the_key(other):
    assert not torch.isin(draw(Streams(0, "a", [0, 1, 2, 3])), other).any()


def test_restarts_of_their_own_draw_what_each_draws_alone():
    streams = Streams(0, "a", [10, 11, 12, 13])
    chosen = draw(streams, torch.tensor([3, 1]), restart=torch.tensor([0, 5, 0, 2]))
    assert torch.equal(chosen[0], draw(streams, restart=2)[3])
    assert torch.equal(chosen[1], draw(streams, restart=5)[1])


def test_taken_streams_are_those_of_the_images_however_often_they_are_taken():
    taken = Streams(3, "b", [10, 11, 12]).take(torch.tensor([2, 0, 2]))
    assert taken == Streams(3, "b", [12, 10, 12])


def test_draws_are_independent_of_the_global_generator():
    torch.manual_seed(0)
    first = draw(Streams(0, "a", [0, 1, 2, 3]))
    state = torch.get_rng_state()
    torch.manual_seed(1)
    assert torch.equal(draw(Streams(0, "a", [0, 1, 2, 3])), first)
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), state)


def test_keys_with_the_same_text_when_joined_are_different_keys():
    one, other = generator("a", "bc"), generator("ab", "c")
    assert not torch.equal(torch.rand(4, generator=one), torch.rand(4, generator=other))


def test_signs_are_plus_and_minus_one_with_equal_chance():
    signs = Streams(0, "a", range(50)).signs(torch.arange(50), (200,), restart=0, purpose="colours")
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    assert float(signs.mean()) == pytest.approx(0, abs=0.03)


def test_no_images_draw_nothing():
    none = torch.tensor([], dtype=torch.long)
    assert draw(Streams(0, "a", []), none).shape == (0, 2, 3)


def test_the_shared_stream_belongs_to_no_image():
    streams = Streams(0, "a", [0, 1])
    shared = torch.rand(3, generator=streams.shared(restart=0, purpose="windows"))
    again = torch.rand(3, generator=Streams(0, "a", [5]).shared(restart=0, purpose="windows"))
    other = torch.rand(3, generator=streams.shared(restart=1, purpose="windows"))
    assert torch.equal(shared, again)
    assert not torch.equal(shared, other)
