"""Vendors' files into the catalog: mappings, and an importer for every kind of table.

A new module here with a subclass of ``TableSettings`` is found by itself.
"""

from core.kinds import import_modules

import_modules(__name__, __path__)
