"""Samplers: each chooses which points of the pool to ask next."""

from lightning_diffal.samplers.badge import BADGESampler
from lightning_diffal.samplers.bald import BALDSampler
from lightning_diffal.samplers.base import Query, QueryData, QuerySampler, ScoreSampler, best_candidates
from lightning_diffal.samplers.candidates import CandidateSampler
from lightning_diffal.samplers.contract import check_query_sampler
from lightning_diffal.samplers.coreset import CoreSetSampler
from lightning_diffal.samplers.diffusion import DiffusionSampler
from lightning_diffal.samplers.probcover import ProbCoverSampler
from lightning_diffal.samplers.random import RandomSampler
from lightning_diffal.samplers.stochastic import StochasticSampler
from lightning_diffal.samplers.typiclust import TypiClustSampler
from lightning_diffal.samplers.uncertainty import EntropySampler, LeastConfidenceSampler, MarginSampler

__all__ = [
    "BADGESampler",
    "BALDSampler",
    "CandidateSampler",
    "CoreSetSampler",
    "DiffusionSampler",
    "EntropySampler",
    "LeastConfidenceSampler",
    "MarginSampler",
    "ProbCoverSampler",
    "Query",
    "QueryData",
    "QuerySampler",
    "RandomSampler",
    "ScoreSampler",
    "StochasticSampler",
    "TypiClustSampler",
    "best_candidates",
    "check_query_sampler",
]
