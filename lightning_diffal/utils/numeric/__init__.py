"""Small tools for arrays: converted, read in blocks, multiplied on all cores.

What an array means, a label or a distance, is not known here.
"""
