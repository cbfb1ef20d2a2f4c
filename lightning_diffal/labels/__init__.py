"""What is known of which point: labels as values, the pool and its states, the events that change it, ids.

Nothing here knows Lightning, models or samplers: a point is a position in the training data set, and perhaps an id.
"""
