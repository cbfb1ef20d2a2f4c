"""Samplers: each chooses which points of the pool to ask next.

The sampler that this package exists for is `samplers.diffusion`; those that the field compares with are in
`samplers.baselines`; `base` and `query_data` say what a sampler is given and gives, `contract` what it has to keep.
Nothing here knows a Trainer.
"""

from lightning_diffal.samplers.base import Query, QueryData, QuerySampler, ScoreSampler, best_candidates
from lightning_diffal.samplers.baselines.badge import BADGESampler
from lightning_diffal.samplers.baselines.bald import BALDSampler
from lightning_diffal.samplers.baselines.coreset import CoreSetSampler
from lightning_diffal.samplers.baselines.dropquery import DropQuerySampler
from lightning_diffal.samplers.baselines.maxherding import MaxHerdingSampler
from lightning_diffal.samplers.baselines.probcover import ProbCoverSampler
from lightning_diffal.samplers.baselines.random import RandomSampler
from lightning_diffal.samplers.baselines.skactiveml import SkactivemlSampler
from lightning_diffal.samplers.baselines.typiclust import TypiClustSampler
from lightning_diffal.samplers.baselines.uherding import UHerdingSampler
from lightning_diffal.samplers.baselines.uncertainty import EntropySampler, LeastConfidenceSampler, MarginSampler
from lightning_diffal.samplers.candidates import CandidateSampler
from lightning_diffal.samplers.contract import check_query_sampler
from lightning_diffal.samplers.diffusion import DiffusionSampler
from lightning_diffal.samplers.stochastic import StochasticSampler

__all__ = [
    "BADGESampler",
    "BALDSampler",
    "CandidateSampler",
    "CoreSetSampler",
    "DiffusionSampler",
    "DropQuerySampler",
    "EntropySampler",
    "LeastConfidenceSampler",
    "MarginSampler",
    "MaxHerdingSampler",
    "ProbCoverSampler",
    "Query",
    "QueryData",
    "QuerySampler",
    "RandomSampler",
    "ScoreSampler",
    "SkactivemlSampler",
    "StochasticSampler",
    "TypiClustSampler",
    "UHerdingSampler",
    "best_candidates",
    "check_query_sampler",
]
