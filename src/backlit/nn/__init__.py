"""Recipes that add nodes of rules to a graph: layers, models, losses by name, initialisers."""
