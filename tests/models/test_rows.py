"""How many images a pass takes: fewer where that changes no bit, fillers where it would."""

import pytest

from harness.models.rows import rows_for


@pytest.mark.parametrize("threads", [1, 2, 3, 16])
@pytest.mark.parametrize(
    ("count", "differentiated", "few", "many"),
    [
        (0, True, 0, 0),
        (1, True, 16, 16),
        (15, True, 16, 16),
        (16, True, 16, 16),
        (17, True, 17, 32),
        (100, False, 100, 112),
        (1, False, 4, 4),
        (5, False, 8, 8),
        (13, False, 16, 16),
        (17, False, 17, 32),
    ],
)
def test_passes_are_filled_up_as_threads_and_gradients_need(
    threads, count, differentiated, few, many
):
    expected = few if threads <= 2 else many
    assert rows_for(count, threads, differentiated=differentiated) == expected
