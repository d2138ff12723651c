"""Can GS-LRM learn a dataset at all? Train it on a few samples until it reproduces what it is given, then judge.

Pictures, cameras, renderer, losses and network all have to be right for that. A left-out camera tells a model in three
dimensions from pictures that only look right from where they were taken (docs/evaluation.md).
"""

from mouselift.overfit.training import CurvePoint, OverfitConfig
from mouselift.overfit.verdict import Overfit, Verdict, judge, overfit

__all__ = ["CurvePoint", "Overfit", "OverfitConfig", "Verdict", "judge", "overfit"]
