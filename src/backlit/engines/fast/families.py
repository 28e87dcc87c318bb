"""All families of kernels: importing this enters them in the tables."""

from backlit.engines.fast import kernels_dense, kernels_loss, lower_dense

__all__ = ["kernels_dense", "kernels_loss", "lower_dense"]
