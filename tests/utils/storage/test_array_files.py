"""A header that promises gigabytes is refused before anything is read."""

import io
import zipfile

import numpy as np
import pytest

from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.selection.embeddings import load_features
from lightning_diffal.utils.storage.array_files import check_array_sizes


def huge(shape=(10**6, 8000)):
    """The beginning of an array of 32 GB."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return file.getvalue() + b"\x00" * 64


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_archive_that_says_too_much_is_refused(compression, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", compression) as archive:
        archive.writestr("x.npy", huge())
    with pytest.raises(ConfigurationError, match=r"x\.npy in .*a\.npz says that it holds 32,000,000,000 bytes"):
        load_features(tmp_path / "a.npz")


def test_a_file_that_says_too_much_is_refused(tmp_path):
    (tmp_path / "a.npy").write_bytes(huge())
    with pytest.raises(ConfigurationError, match=r"a\.npy says that it holds 32,000,000,000 bytes, but there are"):
        load_features(tmp_path / "a.npy")


def test_honest_files_pass(tmp_path):
    x = np.zeros((5000, 40), np.float32)
    np.save(tmp_path / "a.npy", x)
    np.savez(tmp_path / "a.npz", x=x, empty=np.empty((0, 3)))
    np.savez_compressed(tmp_path / "b.npz", x=x)
    (tmp_path / "c.txt").write_text("no array")
    for path in tmp_path.iterdir():
        check_array_sizes(path)
    assert load_features(tmp_path / "b.npz").shape == (5000, 40)
