"""Peers of the speed benchmark: one file each, loaded in a process of its own.

Each has PACKAGES, whose versions are reported, HOW, a phrase that says how it is configured, and a class Peer:
``Peer(task, threads)`` sets up, ``run(steps)`` trains on the first mini-batches of an epoch and returns their losses.
"""
