import pytest
import torch

from harness.data import Augmentation, augment


def reference(images, augmentation, generator):
    """Image by image, with slices of a padded copy."""
    pad, (count, channels, height, width) = augmentation.pad, images.shape
    corners = torch.zeros(2, count, dtype=torch.int64)
    if pad:
        corners = torch.randint(0, 2 * pad + 1, (2, count), generator=generator)
    mirrored = torch.zeros(count)
    if augmentation.flip:
        mirrored = torch.randint(0, 2, (count, 1, 1, 1), generator=generator).flatten()
    result = []
    for index in range(count):
        padded = images.new_zeros(channels, height + 2 * pad, width + 2 * pad)
        padded[:, pad : pad + height, pad : pad + width] = images[index]
        row, column = corners[:, index].tolist()
        window = padded[:, row : row + height, column : column + width]
        result.append(window.flip(2) if mirrored[index] else window)
    return torch.stack(result)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize(("pad", "flip"), [(4, True), (2, False), (0, True), (1, True)])
def test_a_batch_is_augmented_as_each_image_would_be_alone(dtype, pad, flip):
    images = torch.randint(1, 256, (40, 3, 9, 7)).to(dtype)
    augmentation = Augmentation(pad, flip)
    result = augment(images, augmentation, torch.Generator().manual_seed(3))
    expected = reference(images, augmentation, torch.Generator().manual_seed(3))
    assert torch.equal(result, expected)
    assert result.dtype == dtype
    assert result.is_contiguous()


def test_every_shift_and_both_directions_occur():
    image = torch.arange(1, 10, dtype=torch.uint8).reshape(1, 1, 3, 3)
    result = augment(
        image.repeat(2000, 1, 1, 1), Augmentation(1, True), torch.Generator().manual_seed(0)
    )
    assert len(result.unique(dim=0)) == 3 * 3 * 2


def test_without_anything_to_vary_the_images_stay_and_no_number_is_drawn():
    images = torch.zeros(2, 1, 4, 4)
    generator = torch.Generator().manual_seed(0)
    state = generator.get_state()
    assert augment(images, Augmentation(), generator) is images
    assert torch.equal(generator.get_state(), state)


def test_the_given_images_are_never_changed():
    images = torch.randint(0, 256, (8, 3, 8, 8), dtype=torch.uint8)
    before = images.clone()
    augment(images, Augmentation(2, True), torch.Generator().manual_seed(0)).zero_()
    assert torch.equal(images, before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_device_changes_nothing():
    images = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8)
    here = augment(images, Augmentation(4, True), torch.Generator().manual_seed(1))
    there = augment(images.cuda(), Augmentation(4, True), torch.Generator().manual_seed(1))
    assert there.is_cuda
    assert torch.equal(here, there.cpu())
