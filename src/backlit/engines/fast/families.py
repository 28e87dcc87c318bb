"""All families of kernels: importing this enters them in the tables."""

from backlit.engines.fast import (
    kernels_dense,
    kernels_elementwise,
    kernels_images,
    kernels_looking,
    kernels_loss,
    kernels_norms,
    kernels_sequences,
    kernels_structure,
    kernels_winograd,
    lower_dense,
    lower_images,
    lower_norms,
    lower_sequences,
    lower_structure,
)

__all__ = [
    "kernels_dense",
    "kernels_elementwise",
    "kernels_images",
    "kernels_looking",
    "kernels_loss",
    "kernels_norms",
    "kernels_sequences",
    "kernels_structure",
    "kernels_winograd",
    "lower_dense",
    "lower_images",
    "lower_norms",
    "lower_sequences",
    "lower_structure",
]
