"""The numbers that define a render, shared by every backend.

3DGS is the original rasteriser of Kerbl et al. 2023 (diff-gaussian-rasterization, `cuda_rasterizer/`), whose constants
FaceLift's weights were trained with; gsplat names its own where it has them.
"""

NEAR_PLANE = 0.2  # scene units; Gaussians at z <= 0.2 are not drawn (3DGS auxiliary.h in_frustum; gsplat near_plane)
DILATION_PX2 = 0.3  # px^2 added to both variances, so that nothing is thinner than a pixel (3DGS; gsplat eps2d)
JACOBIAN_MARGIN = 0.3  # x/z and y/z are clamped this many half fields of view outside the image (3DGS 1.3; gsplat)
MAX_ALPHA = 0.99  # keeps 1 - alpha away from 0 (3DGS; gsplat 1.5.3 has 0.999)
MIN_ALPHA = 1 / 255  # less than this adds nothing (3DGS, gsplat)
MIN_TRANSMITTANCE = 1e-4  # a Gaussian that would leave less than this ends the pixel and is not added (3DGS, gsplat)
