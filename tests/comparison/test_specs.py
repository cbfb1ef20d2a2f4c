import pytest

from lightning_diffal.comparison.specs import SAMPLERS, parse_sampler, parse_samplers, parse_seeds
from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.samplers import DiffusionSampler, EntropySampler


def test_variants_of_one_sampler_stand_side_by_side():
    found = parse_samplers("diffusion,diffusion:n_steps=20, centrality=0,candidate:base=entropy,n_candidates=9,random")
    assert list(found) == [
        "diffusion",
        "diffusion:n_steps=20,centrality=0",
        "candidate:base=entropy,n_candidates=9",
        "random",
    ]
    variant = found["diffusion:n_steps=20,centrality=0"]
    assert (variant.n_steps, variant.centrality) == (20, 0)
    candidate = found["candidate:base=entropy,n_candidates=9"]
    assert isinstance(candidate.base, EntropySampler)
    assert isinstance(candidate.prefilter, DiffusionSampler)


def test_all_are_all_but_the_adapter():
    assert list(parse_samplers("all")) == [name for name in SAMPLERS if name != "skactiveml"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "to be one of badge"),
        ("diffusion,,random", "but got ''"),
        ("nonsense", "but got 'nonsense'"),
        ("random:seed=1", "none at all"),
        ("diffusion:steps=1", "n_neighbors=value"),
        ("diffusion:n_steps", "n_neighbors=value"),
        ("diffusion:n_steps=0", "cannot be made: Expected argument `n_steps`"),
        ("coreset:metric=__import__('os')", "a Python literal or a word"),
        ("margin,random,margin", "'margin' twice"),
    ],
)
def test_what_cannot_be_a_sampler_is_refused(text, message):
    with pytest.raises(ConfigurationError, match=message):
        parse_samplers(text)


def test_values_may_hold_commas_and_words():
    assert parse_sampler("coreset:metric='cosine'").metric == parse_sampler("coreset:metric=cosine").metric == "cosine"


@pytest.mark.parametrize(
    ("text", "seeds"), [("2", [0, 1]), ("5-7", [5, 6, 7]), ("3,7", [3, 7]), ("7,", [7]), ("1,4-5", [1, 4, 5])]
)
def test_seeds(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "0", "-1", "5-2", "1,1", "1-3,2", "two", "1.5"])
def test_what_cannot_be_seeds_is_refused(text):
    with pytest.raises(ConfigurationError, match="number of seeds"):
        parse_seeds(text)
