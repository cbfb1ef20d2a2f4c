"""Small tools without a subject of their own: arguments, JSON, seeds, optional dependencies; arrays and files below.

Nothing here knows what a label, a sampler or a round is.
"""
