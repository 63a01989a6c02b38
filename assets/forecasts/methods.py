"""The four forecasters by name; elsewhere a method is its number in METHODS.

Belongs here: the names. Does not belong here: what they do (structure.py, innovations.py, simple.py), who is chosen
(champions.py). No numpy: the command line has the names at hand whatever it is asked.
"""

from typing import Literal, get_args

Method = Literal["prophet", "ewma", "seasonal_naive", "zscore"]
METHODS: tuple[Method, ...] = get_args(Method)
PROPHET, EWMA, SEASONAL_NAIVE, ZSCORE = range(len(METHODS))
