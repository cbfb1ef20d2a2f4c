"""The data of a run: the data module, its views of the training set, and the checks made on users' loaders.

Items, loaders and Lightning's data modules are known here; which point is labelled is decided in `labels`, and what a
model makes of the items in `features`.
"""
