import zipfile

import pytest

from harness.data import tree
from harness.data.tree import open_tree
from harness.errors import HarnessError

FILES = {
    "train/cat/1.png": b"one",
    "train/cat/deep/2.png": b"two",
    "train/dog/3.png": b"three",
    "train/.hidden/4.png": b"",
    "train/cat/.DS_Store": b"",
    "trainer/x/5.png": b"",
}


@pytest.fixture(params=["folder", "zip"])
def made(request, tmp_path):
    if request.param == "zip":
        path = tmp_path / "it.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in FILES.items():
                archive.writestr(name, data)
        return open_tree(path)
    for name, data in FILES.items():
        file = tmp_path / "it" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return open_tree(tmp_path / "it")


def test_a_folder_and_a_zip_archive_answer_alike(made):
    assert made.folders("train") == ["cat", "dog"]
    assert made.files("train/cat") == ["train/cat/1.png", "train/cat/deep/2.png"]
    assert made.read("train/dog/3.png") == b"three"
    assert made.folders("test") == []
    assert made.files("test") == []


def test_a_file_that_is_missing_or_too_large_is_an_error(made, monkeypatch):
    with pytest.raises(HarnessError, match="cannot be read"):
        made.read("train/cat/9.png")
    monkeypatch.setattr(tree, "LIMIT", 4)
    with pytest.raises(HarnessError, match="no image of a benchmark is that large"):
        made.read("train/dog/3.png")


def test_a_folder_that_may_not_be_listed_is_an_error_and_not_an_empty_one(tmp_path, monkeypatch):
    (tmp_path / "train" / "cat").mkdir(parents=True)

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(HarnessError, match="Permission denied"):
        open_tree(tmp_path).files("train")


def test_a_zip_entry_that_unpacks_to_more_than_it_declares_is_an_error(tmp_path):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train/cat/1.png", bytes(10_000_000))
    data = path.read_bytes().replace((10_000_000).to_bytes(4, "little"), (5).to_bytes(4, "little"))
    path.write_bytes(data)
    with pytest.raises(HarnessError, match="cannot be read"):
        open_tree(path).read("train/cat/1.png")


def test_what_is_neither_folder_nor_archive_is_refused(tmp_path):
    with pytest.raises(HarnessError, match="there is no"):
        open_tree(tmp_path / "nowhere")
    (tmp_path / "it.zip").write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(HarnessError, match="neither a folder nor a whole zip archive"):
        open_tree(tmp_path / "it.zip")
