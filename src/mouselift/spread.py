"""Preparing on many machines with Ray: the same functions on stretches of a recording, the same bytes as one process.

All machines must see the recording and the dataset folder under the same paths.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from mouselift.data.boxed import MaskStore
from mouselift.data.plan import PrepareConfig, Rig, survey_stretch
from mouselift.data.recording import Recording
from mouselift.data.survey import Survey, choose_witnesses, join_surveys
from mouselift.errors import InputError
from mouselift.prepare import Prepared, SampleWork, prepare, write_samples

LOCAL = "local"
SURVEYED, CROPPED = 500, 50  # instants and samples of one task: seconds of work, far more than a task costs

Result = TypeVar("Result")


def prepare_on_ray(
    recording: Recording, config: PrepareConfig, out: Path, address: str, *, progress: bool = True
) -> Prepared:
    """As `prepare`, with a Ray cluster that does the work.

    Args:
        recording: From `open_recording`.
        config: How.
        out: The dataset folder, which all machines must see.
        address: Of a running cluster, as `auto` or `ray://host:10001`; `local` starts one on this machine.
        progress: Show a bar.

    Raises:
        InputError: As `prepare`; also without the extra `ray`, or without a cluster at this address.
    """
    ray = _ray()
    try:
        ray.init(address=None if address == LOCAL else address, log_to_driver=False, logging_level="error")
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(f"expected a Ray cluster at {address}, found none: {error}") from None
    cluster = _Cluster(ray)
    try:
        return prepare(recording, config, out, look=cluster.look, write=cluster.write, progress=progress)
    finally:
        ray.shutdown()


class _Cluster:
    """Surveys and writes samples in tasks; their results come back in order."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray

    def look(self, recording: Recording, rig: Rig, looked_at: Sequence[int], chosen: Collection[int]) -> Survey:
        witnesses, wanted = choose_witnesses(chosen), frozenset(chosen)
        shared = self._ray.put((recording, rig, witnesses))
        stretches = [list(looked_at[k : k + SURVEYED]) for k in range(0, len(looked_at), SURVEYED)]
        tasks = [(shared, stretch, [i for i in stretch if i in wanted]) for stretch in stretches]
        return join_surveys(list(self._run(_survey, tasks)))

    def write(self, work: SampleWork, names: Mapping[int, str], store: MaskStore | None) -> Iterator[int]:
        shared, items = self._ray.put(work), list(names.items())
        yield from self._run(_write, [(shared, items[k : k + CROPPED]) for k in range(0, len(items), CROPPED)])

    def _run(self, function: Callable[..., Result], tasks: Sequence[tuple[Any, ...]]) -> Iterator[Result]:
        remote = self._ray.remote(function)
        pending = [remote.remote(*arguments) for arguments in tasks]
        try:
            for reference in pending:
                yield self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, InputError):
                raise InputError(str(error.cause)) from None
            raise


def _survey(shared: tuple[Recording, Rig, frozenset[int]], looked_at: list[int], chosen: list[int]) -> Survey:
    recording, rig, witnesses = shared
    return survey_stretch(recording, rig, looked_at, chosen, witnesses=witnesses)


def _write(work: SampleWork, names: list[tuple[int, str]]) -> int:
    return sum(write_samples(work, dict(names), None))


def _ray() -> Any:
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError("--ray needs Ray: pip install 'mouselift[ray]'") from None
    return ray
