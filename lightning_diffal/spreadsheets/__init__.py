"""Tables that people fill in: reading and writing them, and what their cells mean.

For oracles and for `selection`; what is done with a label once it has been read is decided there.
"""
