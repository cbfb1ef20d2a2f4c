"""The commands of `diffal`, one module each; what takes seconds to import is imported when its command runs."""
