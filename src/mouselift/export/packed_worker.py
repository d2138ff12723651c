"""The program that `mouselift.export.packed` runs in a process of its own: it imports gaussforge and nothing else.

    python packed_worker.py FOLDER_OF_GAUSSFORGE MEMORY_BYTES OUTPUT_BYTES SOURCE FORMAT TARGET FORMAT

Damaged files make gaussforge 0.6 end the whole process, and small ones can ask for any amount of memory.
"""

import sys
from importlib import import_module
from pathlib import Path


def main(
    library: str, memory: str, output: str, source: str, source_format: str, target: str, target_format: str
) -> None:
    """Convert one file into another.

    Args:
        library: Folder that the package gaussforge lies in.
        memory: Address space of this process, bytes, where the system can limit it.
        output: Bytes that it may write, where the system can limit it.
        source: The file to read.
        source_format: gaussforge's name of its format.
        target: The file to write.
        target_format: gaussforge's name of its format.
    """
    sys.path.append(library)
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(output), int(output)))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    gaussforge = import_module("gaussforge")
    result = gaussforge.GaussForge().convert(Path(source).read_bytes(), source_format, target_format)
    if "error" in result:
        sys.exit(str(result["error"]))
    Path(target).write_bytes(result["data"])


if __name__ == "__main__":
    main(*sys.argv[1:])
