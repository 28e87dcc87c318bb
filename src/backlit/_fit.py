"""fit as users call it: training, with progress shown where somebody watches."""

from __future__ import annotations

from functools import wraps
from typing import Any

from backlit.train.fit import fit as quiet_fit
from backlit.train.run import Run


@wraps(quiet_fit)
def fit(*arguments: Any, progress: bool = True, **options: Any) -> Run:
    if not progress:
        return quiet_fit(*arguments, **options)
    from backlit.cli.progress import ProgressBar

    with ProgressBar() as bar:
        return quiet_fit(*arguments, **options | {"callbacks": [bar, *options.get("callbacks", ())]})


fit.__doc__ = f"{quiet_fit.__doc__}\n    ``progress``: show a bar with rate, time left and metrics in a terminal, one line an epoch elsewhere."
