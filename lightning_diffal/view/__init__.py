"""How people see an item of a data set: one place for the labelling page, query files, Label Studio and the report."""

from lightning_diffal.view.item_view import ItemView, path_of, show_point
from lightning_diffal.view.shown import Shown
from lightning_diffal.view.thumbnails import Thumbnails

__all__ = ["ItemView", "Shown", "Thumbnails", "path_of", "show_point"]
