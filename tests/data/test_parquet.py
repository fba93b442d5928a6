import numpy as np
import pytest

from harness.data import dataset, load
from harness.errors import HarnessError

NAMES = [str(number) for number in range(10)]


@pytest.fixture
def rows(pictures, encode):
    images, labels = pictures(20)
    return images, [encode(image) for image in images], labels


def as_rows(split):
    return split.images.permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("place", ["", "data", "plain_text"])
@pytest.mark.parametrize("columns", [("img", "label"), ("image", "fine_label")])
def test_images_keep_their_order_over_shards_folders_and_column_names(
    tmp_path, rows, write_parquet, place, columns
):
    images, encoded, labels = rows
    for shard in range(2):
        part = slice(shard * 10, shard * 10 + 10)
        file = tmp_path / place / f"train-0000{shard}-of-00002.parquet"
        write_parquet(file, encoded[part], labels[part], columns=columns)
    split = load("cifar10", "train", data_dir=tmp_path)
    assert np.array_equal(as_rows(split), images)
    assert np.array_equal(split.labels.numpy(), labels)


def test_a_missing_shard_is_an_error_and_not_a_smaller_split(tmp_path, rows, write_parquet):
    _, encoded, labels = rows
    write_parquet(tmp_path / "train-00000-of-00002.parquet", encoded, labels)
    with pytest.raises(HarnessError, match="1 of the 2 files"):
        load("cifar10", "train", data_dir=tmp_path)


def test_a_file_that_declares_another_number_of_classes_is_refused(tmp_path, rows, write_parquet):
    _, encoded, labels = rows
    write_parquet(tmp_path / "test.parquet", encoded, labels, names=NAMES)
    with pytest.raises(HarnessError, match="declares 10 classes, but cifar100 has 100"):
        load("cifar100", "test", data_dir=tmp_path)


def test_other_columns_are_refused_with_what_is_needed(tmp_path, rows, write_parquet):
    _, encoded, labels = rows
    write_parquet(tmp_path / "test.parquet", encoded, labels, columns=("pixels", "label"))
    with pytest.raises(
        HarnessError, match="columns pixels, label: it needs images in img or image"
    ):
        load("cifar10", "test", data_dir=tmp_path)


def test_columns_of_another_type_are_refused(tmp_path, rows):
    import pyarrow as pa
    import pyarrow.parquet as pq

    _, encoded, _ = rows
    file = tmp_path / "test.parquet"
    pq.write_table(pa.table({"img": [1, 2], "label": [0, 1]}), file)
    with pytest.raises(HarnessError, match="a struct with encoded bytes"):
        load("cifar10", "test", data_dir=tmp_path)
    pq.write_table(pa.table({"img": encoded[:2], "label": ["cat", "dog"]}), file)
    with pytest.raises(HarnessError, match="string labels: they must be integers"):
        load("cifar10", "test", data_dir=tmp_path)


def test_a_missing_image_or_label_is_refused(tmp_path, rows, write_parquet):
    _, encoded, labels = rows
    write_parquet(tmp_path / "test.parquet", [*encoded[:3], None], labels[:4])
    with pytest.raises(HarnessError, match=r"image 3 of .* is empty"):
        load("cifar10", "test", data_dir=tmp_path)
    write_parquet(tmp_path / "test.parquet", encoded[:2], [0, None])
    with pytest.raises(HarnessError, match="1 images without label"):
        load("cifar10", "test", data_dir=tmp_path)


def test_an_image_of_another_size_or_a_broken_one_is_named(tmp_path, rows, write_parquet, encode):
    _, encoded, labels = rows
    large = encode(np.zeros((64, 64, 3), np.uint8))
    write_parquet(tmp_path / "test.parquet", [encoded[0], large], labels[:2])
    with pytest.raises(HarnessError, match=r"image 1 of .* is 64 x 64 pixels"):
        load("cifar10", "test", data_dir=tmp_path)
    write_parquet(tmp_path / "test.parquet", [encoded[0], encoded[1][:-30]], labels[:2])
    with pytest.raises(HarnessError, match=r"image 1 of .* is no whole PNG"):
        load("cifar10", "test", data_dir=tmp_path)


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path, rows, write_parquet, keep):
    _, encoded, labels = rows
    file = tmp_path / "test.parquet"
    write_parquet(file, encoded, labels)
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(HarnessError, match="no whole parquet file"):
        load("cifar10", "test", data_dir=tmp_path)


def test_damage_inside_a_file_never_passes_unnoticed_or_as_a_traceback(
    tmp_path, rows, write_parquet
):
    images, encoded, labels = rows
    file = tmp_path / "test.parquet"
    write_parquet(file, encoded, labels)
    whole = bytearray(file.read_bytes())
    for place in range(4, len(whole) - 8, len(whole) // 40):
        damaged = whole.copy()
        damaged[place] ^= 0x55
        file.write_bytes(damaged)
        try:
            split = load("cifar10", "test", data_dir=tmp_path)
        except HarnessError:
            continue
        assert split.images.shape[1:] == images.transpose(0, 3, 1, 2).shape[1:]


def test_files_by_path_are_a_dataset_of_their_own(tmp_path, rows, write_parquet):
    images, encoded, labels = rows
    write_parquet(tmp_path / "train.parquet", encoded, labels, names=NAMES)
    write_parquet(tmp_path / "validation.parquet", encoded[:5], labels[:5], names=NAMES)
    found = dataset(f"parquet:{tmp_path}")
    assert (found.classes, found.shape) == (tuple(NAMES), (3, 32, 32))
    assert np.array_equal(as_rows(load(found.name, "train")), images)
    assert len(load(found.name, "test")) == 5


def test_classes_without_names_are_numbered(tmp_path, rows, write_parquet):
    _, encoded, labels = rows
    write_parquet(tmp_path / "train.parquet", encoded, labels)
    found = dataset(f"parquet:{tmp_path}")
    assert found.classes == tuple(NAMES)
    with pytest.raises(HarnessError, match="has no test split"):
        load(found.name, "test")


def test_a_label_beyond_all_measure_is_not_taken_for_a_number_of_classes(
    tmp_path, rows, write_parquet
):
    write_parquet(tmp_path / "train.parquet", rows[1][:2], [0, 2**40])
    with pytest.raises(HarnessError, match="labels up to 1099511627776"):
        dataset(f"parquet:{tmp_path}")


def test_a_column_that_is_there_twice_is_refused(tmp_path, rows):
    import pyarrow as pa
    import pyarrow.parquet as pq

    images, labels = pa.array(rows[1]), pa.array(rows[2])
    table = pa.Table.from_arrays([images, images, labels], names=["img", "img", "label"])
    pq.write_table(table, tmp_path / "test.parquet")
    with pytest.raises(HarnessError, match="columns img, img, label"):
        load("cifar10", "test", data_dir=tmp_path)


def test_a_path_without_parquet_files_or_rows_is_refused(tmp_path, write_parquet):
    with pytest.raises(HarnessError, match=r"holds no train-\*.parquet"):
        dataset(f"parquet:{tmp_path}")
    write_parquet(tmp_path / "train.parquet", [], [])
    with pytest.raises(HarnessError, match="first image"):
        dataset(f"parquet:{tmp_path}")
