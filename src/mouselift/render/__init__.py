"""`render`: the one function that turns Gaussians and cameras into pictures; differentiable."""

from mouselift.render.contract import RenderOutput
from mouselift.render.renderer import render

__all__ = ["RenderOutput", "render"]
