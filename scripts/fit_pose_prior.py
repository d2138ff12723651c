"""Fit the common skeleton to recorded mice and keep only statistics of the joint angles.

    python scripts/fit_pose_prior.py LABELS.mat MOCAP.h5 src/mouselift/assets/pose_prior.npz

LABELS.mat is DANNCE's `markerless_mouse_1/label3d_dannce.mat` (81 hand-labelled instants, 22 keypoints, mm, +Z up;
MIT); MOCAP.h5 is stac-mjx's `test_mouse_mocap_3600_frames.h5` (3600 frames, 34 keypoints, mm; BSD-3-Clause).

Every instant gets its own joint rotations; each recording gets its own bone scales and its own places of the keypoints
on the joints, because labellers click on skin and our joints lie inside. Angles are mirrored left to right, so that the
prior has no handedness. What is stored: mean, principal components, their standard deviations, limits of every angle.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
from scipy.io import loadmat
from scipy.spatial.transform import Rotation

from mouselift.body.mesh import procedural_mouse
from mouselift.body.skeleton import INDEX, JOINTS, KEYPOINTS, LEAVES, PARENTS, rest_joints

NUM_COMPONENTS = 24
ITERATIONS = 700
MOCAP_STRIDE = 6
KEYPOINT_SIGMA_MM = 2.0
STIFFNESS = {
    "lumbar": 1.2,
    "thorax": 1.2,
    "chest": 1.2,
    "ear": 4.0,
    "tail": 0.8,
    "shoulder": 0.7,
    "hip": 0.7,
}  # 1 / rad
OFFSET_SIGMA_MM = 3.0
# stac-mjx landmark -> joint that carries it, and where on the rest skeleton it starts.
MOCAP_LANDMARKS = {
    "Nose": ("head", "nose"), "TTI": ("pelvis", "tail_0"), "Neck": ("neck", "neck"), "Head": ("head", "head"),
    "Trunk": ("lumbar", "lumbar"), "Spine": ("chest", "chest"),
    "Tail_0": ("tail_1", "tail_2"), "Tail_1": ("tail_2", "tail_3"), "Tail_2": ("tail_4", "tail_5"),
    "Tail_3": ("tail_5", "tail_6"), "Tail_4": ("tail_6", "tail_7"), "TailTip": ("tail_7", "tail_tip"),
} | {
    f"{name}_{s}": (f"{joint}_{s}" if joint not in INDEX else joint, f"{at}_{s}")
    for s in "LR"
    for name, joint, at in (
        ("Ear", "head", "ear_tip"), ("Shoulder", "chest", "shoulder"), ("Elbow", "shoulder", "elbow"),
        ("Wrist", "elbow", "wrist"), ("Forepaw", "wrist", "paw"), ("Hip", "pelvis", "hip"),
        ("Knee", "hip", "knee"), ("Heel", "knee", "ankle"), ("MTP", "ankle", "toe"),
    )
}  # fmt: skip
MOCAP_ORDER = (
    "Nose", "Ear_R", "Ear_L", "TTI", "TailTip", "Head", "Trunk", "Tail_0", "Tail_1", "Tail_2", "Shoulder_L",
    "Shoulder_R", "Knee_L", "Knee_R", "Neck", "Elbow_L", "Elbow_R", "Wrist_L", "Wrist_R", "Forepaw_L",
    "Forepaw_R", "Heel_L", "Heel_R", "Spine", "Eye_L", "Eye_R", "Tail_3", "Tail_4", "Hip_L", "Hip_R",
    "Lisfranc_R", "MTP_L", "Lisfranc_L", "MTP_R",
)  # fmt: skip


@dataclass(frozen=True)
class Recording:
    """Keypoints (T, K, 3) in mm, NaN where unseen, and where they sit on the skeleton."""

    points: torch.Tensor
    carriers: list[int]
    places: torch.Tensor


def read_labels(path: Path) -> Recording:
    """The hand-labelled instants."""
    points = loadmat(path)["labelData"][0, 0]["data_3d"][0, 0].reshape(-1, len(KEYPOINTS), 3)
    body = procedural_mouse()
    return Recording(torch.tensor(points).float(), body.keypoint_joints.tolist(), torch.tensor(body.keypoints))


def read_mocap(path: Path) -> Recording:
    """Every `MOCAP_STRIDE`-th frame of the motion capture, turned upright."""
    with h5py.File(path) as file:
        tracks = np.asarray(file["tracks"])[::MOCAP_STRIDE, 0]
    tracks = tracks @ upright_rotation(tracks).T
    names = list(MOCAP_LANDMARKS)
    points = torch.tensor(tracks[:, [MOCAP_ORDER.index(name) for name in names]]).float()
    rest = torch.tensor(rest_joints())
    carriers = [INDEX[MOCAP_LANDMARKS[name][0]] for name in names]
    return Recording(points, carriers, torch.stack([rest[INDEX[MOCAP_LANDMARKS[name][1]]] for name in names]))


def upright_rotation(tracks: np.ndarray) -> np.ndarray:
    """Rotation that makes the normal of the plane under the feet +Z (the recording is in camera coordinates)."""
    feet = tracks[:, [MOCAP_ORDER.index(f"{n}_{s}") for n in ("Forepaw", "MTP", "Heel") for s in "LR"]].reshape(-1, 3)
    back = tracks[:, [MOCAP_ORDER.index(n) for n in ("Trunk", "Spine", "Neck")]].reshape(-1, 3)
    normal = np.linalg.svd(feet - feet.mean(0), full_matrices=False)[2][2]
    normal *= np.sign((back.mean(0) - feet.mean(0)) @ normal)
    x = np.cross([0.0, 1.0, 0.0], normal)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(normal, x), normal])


def exp_so3(vectors: torch.Tensor) -> torch.Tensor:
    """Rotation matrices (..., 3, 3) of axis-angle vectors (..., 3)."""
    x, y, z = vectors.unbind(-1)
    o = torch.zeros_like(x)
    return torch.linalg.matrix_exp(torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).reshape(*vectors.shape[:-1], 3, 3))


def forward(
    root: torch.Tensor, shift: torch.Tensor, angles: torch.Tensor, bone_scales: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Turns (T, J, 3, 3) and positions (T, J, 3) of all joints."""
    rest = torch.tensor(rest_joints())
    local = exp_so3(angles)
    turns, positions = [exp_so3(root)], [shift]
    for joint, parent in enumerate(PARENTS):
        if parent < 0:
            continue
        turns.append(turns[parent] @ local[:, joint])
        positions.append(positions[parent] + bone_scales[joint] * (turns[parent] @ (rest[joint] - rest[parent])))
    return torch.stack(turns, 1), torch.stack(positions, 1)


def first_root(recording: Recording) -> tuple[torch.Tensor, torch.Tensor]:
    """Kabsch alignment of the rest trunk to each instant."""
    trunk = [i for i, joint in enumerate(recording.carriers) if not JOINTS[joint].startswith("tail")]
    vectors, shifts = [], []
    for instant in recording.points:
        seen = [i for i in trunk if torch.isfinite(instant[i]).all()]
        p, q = recording.places[seen], instant[seen]
        u, _, vt = torch.linalg.svd((p - p.mean(0)).T @ (q - q.mean(0)))
        d = torch.diag(torch.tensor([1.0, 1.0, torch.linalg.det(vt.T @ u.T).sign()]))
        rotation = vt.T @ d @ u.T
        vectors.append(log_so3(rotation.numpy()))
        shifts.append(q.mean(0) + rotation @ (torch.tensor(rest_joints())[0] - p.mean(0)))
    return torch.tensor(np.array(vectors)).float(), torch.stack(shifts)


def log_so3(rotation: np.ndarray) -> np.ndarray:
    """Axis-angle vectors (..., 3) of rotation matrices (..., 3, 3)."""
    return Rotation.from_matrix(rotation).as_rotvec()


def stiffness() -> torch.Tensor:
    """How strongly each joint (J,) is held at rest, 1 / rad; leaves and the root's own entry do not turn at all."""
    values = [1e3 if name in LEAVES or name == "pelvis" else STIFFNESS.get(name.split("_")[0], 1.0) for name in JOINTS]
    return torch.tensor(values)


def fit(recording: Recording) -> tuple[np.ndarray, np.ndarray]:
    """Joint angles (T, J, 3) and root rotations (T, 3, 3) of one recording."""
    root, shift = (t.clone().requires_grad_() for t in first_root(recording))
    angles = torch.zeros(len(root), len(JOINTS), 3, requires_grad=True)
    log_scales = torch.zeros(len(JOINTS), requires_grad=True)
    offsets = torch.zeros_like(recording.places, requires_grad=True)
    seen = torch.isfinite(recording.points).all(-1)
    targets = torch.nan_to_num(recording.points)
    places = recording.places - torch.tensor(rest_joints())[recording.carriers]
    optimiser = torch.optim.Adam(
        [
            {"params": [angles, root], "lr": 0.03},
            {"params": [shift], "lr": 0.3},
            {"params": [log_scales], "lr": 0.01},
            {"params": [offsets], "lr": 0.05},
        ]
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, ITERATIONS)
    error = torch.zeros(())
    for _ in range(ITERATIONS):
        turns, positions = forward(root, shift, angles, log_scales.exp())
        predicted = (
            positions[:, recording.carriers] + (turns[:, recording.carriers] @ (places + offsets)[..., None])[..., 0]
        )
        error = (predicted - targets).norm(dim=-1)
        data = torch.nn.functional.huber_loss(
            error / KEYPOINT_SIGMA_MM, torch.zeros_like(error), reduction="none", delta=2.0
        )
        prior = (stiffness()[:, None] * angles).square().sum() / len(root)
        shape = (offsets / OFFSET_SIGMA_MM).square().sum() + (log_scales / 0.15).square().sum()
        loss = (data * seen).sum() / len(root) + prior + 0.02 * shape
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    print(f"{len(root)} instants, median keypoint error {error[seen].median():.2f} mm")
    return angles.detach().numpy(), exp_so3(root.detach()).numpy()


def tilt(root: np.ndarray) -> np.ndarray:
    """Root rotations without their heading, as axis-angle (T, 3)."""
    heading = np.arctan2(root[:, 1, 0], root[:, 0, 0])
    c, s, o = np.cos(heading), np.sin(heading), np.zeros_like(heading)
    unturn = np.stack([c, s, o, -s, c, o, o, o, o + 1], -1).reshape(-1, 3, 3)
    return log_so3(unturn @ root)


def mirrored(angles: np.ndarray) -> np.ndarray:
    """The same poses seen in a mirror: left and right joints swapped, rotations about X and Z reversed."""
    swap = [
        INDEX[name[:-1] + {"L": "R", "R": "L"}[name[-1]]] if name[-2:] in ("_L", "_R") else i
        for i, name in enumerate(JOINTS)
    ]
    return angles[:, swap] * np.array([-1, 1, -1])


def main(labels: Path, mocap: Path, out: Path) -> None:
    """Fit both recordings, share the weight between them, write the statistics."""
    torch.manual_seed(0)
    poses, weights = [], []
    for recording, weight in ((read_labels(labels), 0.6), (read_mocap(mocap), 0.4)):
        angles, root = fit(recording)
        angles[:, 0] = tilt(root)
        both = np.concatenate([angles, mirrored(angles)]).reshape(2 * len(angles), -1)
        poses.append(both)
        weights.append(np.full(len(both), weight / len(both)))
    data, weight = np.concatenate(poses), np.concatenate(weights)
    mean = weight @ data
    _, singular, components = np.linalg.svd((data - mean) * np.sqrt(weight)[:, None], full_matrices=False)
    low, high = np.quantile(data, [0.01, 0.99], axis=0)
    print("share of variance kept:", (singular[:NUM_COMPONENTS] ** 2).sum() / (singular**2).sum())
    np.savez_compressed(
        out,
        mean=mean.reshape(-1, 3).astype(np.float32),
        components=components[:NUM_COMPONENTS].reshape(NUM_COMPONENTS, -1, 3).astype(np.float32),
        deviations=singular[:NUM_COMPONENTS].astype(np.float32),
        low=low.reshape(-1, 3).astype(np.float32),
        high=high.reshape(-1, 3).astype(np.float32),
    )


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
