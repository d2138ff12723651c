"""What the writers share: a format must hold what it is given, or it is not written."""

from mouselift.data.calibration.record import CalibratedCamera, Calibration
from mouselift.errors import InputError


def check_writable(
    calibration: Calibration, what: str, *, skew: bool = True, distortion: bool = True, needs_size: bool = False
) -> None:
    """Refuse cameras that a format cannot hold.

    Args:
        calibration: What is to be written.
        what: The format, for the message.
        skew: Whether it holds skew.
        distortion: Whether it holds distortion.
        needs_size: Whether it must have the pictures' size.

    Raises:
        InputError: A camera has what the format does not hold, or lacks what it needs.
    """
    for camera in calibration.cameras:
        where = f"{calibration.source}: camera {camera.name!r}"
        if not skew and camera.K[0, 1] != 0:
            raise InputError(
                f"{where}: {what} holds no skew, found {float(camera.K[0, 1]):g} px; undistort the videos first"
            )
        if not distortion and camera.distortion is not None:
            raise InputError(f"{where}: {what} holds no lens distortion; undistort the videos first")
        if needs_size and camera.width is None:
            raise InputError(f"{where}: {what} holds the image size, which this calibration does not know")


def distortion_list(camera: CalibratedCamera) -> list[float]:
    """(k1, k2, p1, p2, k3), zeros for a pinhole."""
    return [0.0] * 5 if camera.distortion is None else camera.distortion.tolist()


def file_names(calibration: Calibration, suffix: str) -> list[str]:
    """One file name for each camera.

    Raises:
        InputError: A camera's name cannot be a file's.
    """
    for name in calibration.names:
        if not name or name.startswith(".") or any(c in "/\\:\0" for c in name):
            raise InputError(f"{calibration.source}: expected camera names that can name files, found {name!r}")
    return [f"{name}{suffix}" for name in calibration.names]
