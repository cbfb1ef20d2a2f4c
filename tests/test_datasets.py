import numpy as np
import pytest
import torch

from lightning_diffal.datasets import blobs, checkerboard, digits, npz
from lightning_diffal.exceptions import ConfigurationError


def save(path, **changes):
    generator = np.random.default_rng(0)
    arrays = {
        "x_train": generator.integers(0, 256, (20, 6, 6), dtype=np.uint8),
        "y_train": generator.integers(0, 3, 20).astype(np.uint8),
        "x_test": generator.integers(0, 256, (8, 6, 6), dtype=np.uint8),
        "y_test": generator.integers(0, 3, 8).astype(np.uint8),
    }
    arrays |= changes
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    return arrays


def test_digits_is_one_fixed_stratified_split():
    train, test = digits()
    images, labels = train.tensors
    assert images.shape == (1297, 1, 8, 8)
    assert images.dtype == torch.float32
    assert (images.min(), images.max()) == (0, 1)
    assert labels.dtype == torch.int64
    whole = torch.bincount(torch.cat([labels, test.tensors[1]]))
    assert (torch.bincount(test.tensors[1]) - whole * 500 / 1797).abs().max() < 1
    again, other = digits()[1], digits(seed=1)[1]
    assert torch.equal(test.tensors[0], again.tensors[0])
    assert not torch.equal(test.tensors[0], other.tensors[0])


def test_digits_sets_share_no_image_and_lose_none():
    train, test = digits(n_test=123)
    assert len(test) == 123
    from sklearn.datasets import load_digits

    together = torch.cat([train.tensors[0], test.tensors[0]]).flatten(1) * 16
    original = torch.from_numpy(load_digits().data).float()
    assert torch.equal(torch.unique(together, dim=0), torch.unique(original, dim=0))
    assert len(together) == len(original)


@pytest.mark.parametrize("n_test", [0, 1790])
def test_digits_refuses_a_size_without_room(n_test):
    with pytest.raises(ConfigurationError, match="Expected argument `n_test`"):
        digits(n_test=n_test)


def test_npz_standardises_with_the_whole_training_set(tmp_path):
    arrays = save(tmp_path / "a.npz")
    train, test = npz(tmp_path / "a.npz")
    mean, deviation = arrays["x_train"].mean(), arrays["x_train"].std()
    expected = (arrays["x_test"].astype(np.float64) - mean) / deviation
    np.testing.assert_allclose(test.tensors[0][:, 0].numpy(), expected, rtol=1e-4, atol=1e-5)
    subset, _ = npz(tmp_path / "a.npz", n=5, seed=3)
    kept = np.random.default_rng(3).choice(20, 5, replace=False)
    assert torch.equal(subset.tensors[0], train.tensors[0][kept])
    assert torch.equal(subset.tensors[1], train.tensors[1][kept])


@pytest.mark.parametrize(
    ("shape", "expected"), [((6, 6, 3), (3, 6, 6)), ((3, 6, 6), (3, 6, 6)), ((1, 6, 6), (1, 6, 6)), ((7,), (7,))]
)
def test_npz_puts_channels_first(tmp_path, shape, expected):
    generator = np.random.default_rng(0)
    save(tmp_path / "a.npz", x_train=generator.random((20, *shape)), x_test=generator.random((8, *shape)))
    train, _ = npz(tmp_path / "a.npz")
    assert tuple(train[0][0].shape) == expected
    assert train[0][0].dtype == torch.float32


def test_npz_keeps_a_constant_channel_finite(tmp_path):
    save(tmp_path / "a.npz", x_train=np.zeros((20, 4, 4)), x_test=np.zeros((8, 4, 4)))
    assert torch.equal(npz(tmp_path / "a.npz")[0].tensors[0], torch.zeros(20, 1, 4, 4))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_test": None}, "y_test is missing"),
        ({"y_train": np.zeros(19, int)}, r"`y_train` of shape \(20,\)"),
        ({"y_train": np.zeros(20)}, "`y_train` to hold classes"),
        ({"y_train": -np.ones(20, int)}, "`y_train` to hold classes"),
        ({"x_train": np.zeros((20, 2, 2, 2, 2))}, "`x_train` of shape"),
        ({"x_test": np.zeros((8, 5, 5))}, "items of one shape"),
        ({"x_train": np.array(["a"] * 20)}, "`x_train` to hold numbers"),
        ({"x_test": np.array([{}] * 8, dtype=object)}, "plain numeric arrays"),
        (
            {"x_train": np.where(np.arange(20) == 2, np.nan, np.zeros((6, 6, 20))).T},
            r"`x_train` holds NaN .* at \[2\]",
        ),
        ({"x_test": np.full((8, 6, 6), np.inf)}, "`x_test` holds NaN or infinity in 8 of 8 rows"),
    ],
)
def test_npz_says_what_is_wrong_with_a_file(tmp_path, changes, message):
    save(tmp_path / "a.npz", **changes)
    with pytest.raises(ConfigurationError, match=message):
        npz(tmp_path / "a.npz")


def test_npz_refuses_other_files_and_sizes(tmp_path):
    with pytest.raises(ConfigurationError, match="there is no file"):
        npz(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(ConfigurationError, match="of another kind"):
        npz(tmp_path / "text.npz")
    save(tmp_path / "a.npz")
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[200] ^= 0xFF
    (tmp_path / "damaged.npz").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"damaged.npz is damaged \("):
        npz(tmp_path / "damaged.npz")
    with pytest.raises(ConfigurationError, match="`n` to be between 1 and 20"):
        npz(tmp_path / "a.npz", n=21)


def test_checkerboard_alternates():
    features, labels = checkerboard(500, n_squares=3, seed=1)
    column, row = (features * 3).astype(int).T
    assert np.array_equal(labels, (column + row) % 2)
    assert (features.dtype, labels.dtype) == (np.float32, np.int64)
    assert np.array_equal(features, checkerboard(500, n_squares=3, seed=1)[0])


def test_blobs_are_balanced_and_where_they_should_be():
    features, labels = blobs(1001, n_classes=4, n_features=3, seed=2, spread=0.0)
    assert np.bincount(labels).tolist() == [251, 250, 250, 250]
    assert len(np.unique(features, axis=0)) == 4
    assert (features.dtype, labels.dtype) == (np.float32, np.int64)
    assert np.array_equal(features, blobs(1001, n_classes=4, n_features=3, seed=2, spread=0.0)[0])


@pytest.mark.parametrize("make", [lambda: blobs(0), lambda: checkerboard(0), lambda: checkerboard(5, 0)])
def test_synthetic_sets_refuse_nothing(make):
    with pytest.raises(ConfigurationError, match="to be at least 1, but got 0"):
        make()


def test_the_global_random_state_is_untouched(tmp_path):
    save(tmp_path / "a.npz")
    numpy_state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()
    digits(), npz(tmp_path / "a.npz", n=4), checkerboard(50), blobs(50)
    assert np.array_equal(np.random.get_state()[1], numpy_state)
    assert torch.equal(torch.get_rng_state(), torch_state)


def test_a_file_without_a_test_set_is_split_alike_for_every_seed(tmp_path):
    labels = np.repeat(np.arange(4), 25)
    x = np.arange(100, dtype=np.float32)[:, None] + np.zeros(3, dtype=np.float32)
    np.savez(tmp_path / "a.npz", x=x, y=labels)
    train, test = npz(tmp_path / "a.npz", test_fraction=0.4)
    assert (len(train), len(test)) == (60, 40)
    assert torch.bincount(test.tensors[1]).tolist() == [10] * 4
    _, again = npz(tmp_path / "a.npz", n=20, seed=5, test_fraction=0.4)
    assert torch.equal(test.tensors[0], again.tensors[0])
    for fraction in (0, 1, 1.5, 0.001):
        with pytest.raises(ConfigurationError, match="argument `test_fraction`"):
            npz(tmp_path / "a.npz", test_fraction=fraction)
