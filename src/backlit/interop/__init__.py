"""Adapters to other frameworks: no mathematics of their own, each loaded only when it is asked for."""

from backlit.interop.torch_weights import from_torch_state_dict

__all__ = ["from_torch_state_dict"]
