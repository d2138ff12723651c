"""FaceLift-compatible multi-view latent diffusion on the stock networks of diffusers and transformers.

One picture to six views, with the layout, the tensors and the numbers of FaceLift's published `pipeckpts` folder
(written from its specification; docs/multiview.md). The extra `diffusion` is needed to build the networks, not to
import this.
"""
