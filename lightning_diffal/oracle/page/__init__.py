"""The labelling page: people label in a browser, and every answer is on disk before the page says so.

A run and its page meet in one folder, `label` in the folder of the run: the training writes what is asked (`cards`)
and how far it is; the server, in the training's process or in one of its own, appends what people say (`log`).
"""
