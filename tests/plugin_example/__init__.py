"""Parts of a user's own, in a package outside the house that a config names under ``plugins``."""
