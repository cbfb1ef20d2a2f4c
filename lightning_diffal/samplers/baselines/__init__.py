"""The samplers that the field compares with: random, uncertainty, BALD, BADGE, core-set, TypiClust, ProbCover.

The sampler that this package exists for is `samplers.diffusion`; what all samplers share is one folder up.
"""
