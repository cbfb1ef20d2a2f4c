"""Small tools without a subject of their own: arguments, arrays, files, JSON, seeds, optional dependencies.

Nothing here knows what a label, a sampler or a round is.
"""
