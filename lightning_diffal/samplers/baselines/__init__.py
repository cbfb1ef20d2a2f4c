"""The samplers that the field compares with, one file for each, and the steps that several of them share.

Random, uncertainty, BALD, BADGE, core-set, TypiClust, ProbCover, MaxHerding, Uncertainty Herding, DropQuery, and the
adapter to scikit-activeml. The sampler that this package exists for is `samplers.diffusion`; what all samplers share is
one folder up.
"""
