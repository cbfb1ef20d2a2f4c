"""Running a user's model over the whole data set: how to call it, and which of its layers is the penultimate one.

What comes out are arrays with one row per point. When the model is run, and who reads the arrays, is decided in `run`.
"""
