"""Engines run graphs. The reference engine defines what is correct."""
