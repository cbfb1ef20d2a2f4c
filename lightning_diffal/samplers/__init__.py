"""Samplers: each chooses which points of the pool to ask next."""

from lightning_diffal.samplers.base import Query, QueryData, QuerySampler, best_candidates
from lightning_diffal.samplers.contract import check_query_sampler
from lightning_diffal.samplers.diffusion import DiffusionSampler
from lightning_diffal.samplers.random import RandomSampler
from lightning_diffal.samplers.uncertainty import EntropySampler, LeastConfidenceSampler, MarginSampler

__all__ = [
    "DiffusionSampler",
    "EntropySampler",
    "LeastConfidenceSampler",
    "MarginSampler",
    "Query",
    "QueryData",
    "QuerySampler",
    "RandomSampler",
    "best_candidates",
    "check_query_sampler",
]
