"""Adapters to other frameworks: no mathematics of their own, each loaded only when it is asked for."""
