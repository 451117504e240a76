"""Importers: from the files of vendors and venues to the tables of a catalog."""
