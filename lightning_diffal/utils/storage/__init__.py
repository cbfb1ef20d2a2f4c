"""Files: written at once or not at all, locked, larger than memory; long work that goes on where it was killed.

What a file is about, a journal or a table, is not known here.
"""
