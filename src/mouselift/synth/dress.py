"""What covers each part of a skinned mesh in rest pose: regions, length of the hair, and the way it lies."""

import numpy as np
from jaxtyping import Float, Int

from mouselift.body.mesh import Region, normalise
from mouselift.body.skeleton import INDEX, JOINTS, PARENTS

# Hair length along the trunk: distance behind the nose as a share of nose to tail root, mm. Long on rump and flank.
HAIR_AT = (0.0, 0.08, 0.15, 0.25, 0.31, 0.50, 0.74, 0.95, 1.02)
HAIR_MM = (0.6, 1.1, 1.6, 2.5, 3.4, 4.2, 4.8, 4.0, 1.5)
LEG_JOINTS = ("shoulder", "elbow", "hip", "knee")
FOOT_JOINTS = ("wrist", "paw", "ankle", "toe")


def paint_regions(
    vertices: Float[np.ndarray, "n 3"],
    normals: Float[np.ndarray, "n 3"],
    weights: Float[np.ndarray, "n j"],
    joints: Float[np.ndarray, "j 3"],
) -> Int[np.ndarray, "n"]:
    """Regions of a mesh from where its vertices lie and which joints move them.

    Args:
        vertices: Rest positions, mm.
        normals: Unit, outward.
        weights: Skinning weights over all common joints.
        joints: Rest positions of the joints.
    """
    at = {name: joints[i] for name, i in INDEX.items()}
    x, z, nose = vertices[:, 0], vertices[:, 2], at["nose"]
    regions = np.full(len(vertices), int(Region.BACK))
    regions[(normals[:, 2] < -0.45) & (x < at["head"][0] + 3)] = Region.BELLY
    regions[x > at["head"][0] + 1] = Region.FACE
    pad = (x > nose[0] - 9.5) & (x < nose[0] - 1.5) & (np.abs(normals[:, 1]) > 0.45) & (z < nose[2] + 3.5)
    regions[pad] = Region.WHISKER_PAD
    regions[x > nose[0] - 0.1] = Region.NOSE
    for side in "LR":
        regions[np.linalg.norm(vertices - at[f"ankle_{side}"], axis=1) < 2.8] = Region.FOOT
        regions[np.linalg.norm(vertices - at[f"wrist_{side}"], axis=1) < 2.2] = Region.FOOT
    for region, prefixes in ((Region.FOOT, FOOT_JOINTS), (Region.EAR, ("ear",)), (Region.TAIL, ("tail",))):
        share = weights[:, [i for i, name in enumerate(JOINTS) if name.startswith(prefixes)]].sum(1)
        regions[share > 0.5] = region
    return regions


def hair_lengths(
    vertices: Float[np.ndarray, "n 3"], regions: Int[np.ndarray, "n"], joints: Float[np.ndarray, "j 3"]
) -> Float[np.ndarray, "n"]:
    """Hair length in mm: short on the face and towards the paws, a down on the ears, none on bare skin."""
    at = {name: joints[i] for name, i in INDEX.items()}
    behind = (at["nose"][0] - vertices[:, 0]) / (at["nose"][0] - at["tail_0"][0])
    length = np.interp(behind, HAIR_AT, HAIR_MM)
    for side in "LR":
        for joint, reach in (("ankle", 14.0), ("wrist", 11.0)):
            near = np.clip(np.linalg.norm(vertices - at[f"{joint}_{side}"], axis=1) / reach, 0, 1)
            length = np.minimum(length, 1.0 + (length - 1.0) * near)
    length[np.isin(regions, [Region.FOOT, Region.NOSE, Region.EYE, Region.TAIL])] = 0.0
    length[regions == Region.EAR] = 0.6
    return length


def comb(weights: Float[np.ndarray, "n j"], joints: Float[np.ndarray, "j 3"]) -> Float[np.ndarray, "n 3"]:
    """Directions in which hair lies, not yet along the surface: tail-wards and down, on limbs and ears outwards."""
    flow = np.tile([-1.0, 0.0, -0.25], (len(weights), 1))
    for joint, parent in enumerate(PARENTS):
        if parent < 0 or not JOINTS[parent].startswith((*LEG_JOINTS, "ear", "tail")):
            continue
        bone = normalise(joints[joint] - joints[parent])
        pull = 0.96 * bone + np.array([-0.32, 0, -0.8]) * JOINTS[parent].startswith(LEG_JOINTS)
        flow += weights[:, [parent]] * pull
    return flow
