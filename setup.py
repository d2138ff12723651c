"""Builds the CPU renderer: shared libraries with a plain C interface, one for each instruction set.

Everything else about the package stands in pyproject.toml. Without a C++ compiler the package installs all the same,
with a warning, and renders with its slow reference.
"""

import platform
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError

NATIVE = Path("src/mouselift/render/native")
OPENMP = "-fopenmp"
ISA_FLAGS = {
    "baseline": [],  # SSE2 on x86-64, NEON on arm64
    "avx2": ["-mavx2", "-mfma"],
    "avx512": ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma"],
}


def kernel(isa: str) -> Extension:
    """The kernel compiled for one instruction set."""
    # -Wno-psabi: vectors are passed only between functions of one file, so their calling convention does not matter.
    flags = ["-std=c++17", "-O3", "-g0", "-fvisibility=hidden", "-Wno-psabi", OPENMP, *ISA_FLAGS[isa]]
    return Extension(
        f"mouselift.render.libsplat_{isa}",
        sources=[str(NATIVE / "splat.cpp")],
        depends=[str(header) for header in sorted(NATIVE.glob("*.h"))],
        extra_compile_args=flags,
        extra_link_args=[OPENMP],
        language="c++",
        optional=True,
    )


class BuildKernels(build_ext):
    """Builds libraries that ctypes loads: no Python in their names, and OpenMP only where the compiler has it."""

    def get_ext_filename(self, fullname: str) -> str:
        """Leave out the tag of the Python version."""
        return str(Path(*fullname.split(".")).with_suffix(".so"))

    def get_export_symbols(self, ext: Extension) -> list[str]:
        """There is no PyInit function."""
        return []

    def build_extension(self, ext: Extension) -> None:
        """Try with OpenMP, then without."""
        self.build_temp = str(Path(self.build_temp).parent / ext.name)  # they share a source, not an object file
        try:
            super().build_extension(ext)
        except BaseError:
            ext.extra_compile_args.remove(OPENMP)
            ext.extra_link_args.remove(OPENMP)
            super().build_extension(ext)
            self.warn(f"{ext.name} is built without OpenMP: it will use one thread")


isas = list(ISA_FLAGS) if platform.machine().lower() in ("x86_64", "amd64") else ["baseline"]
setup(ext_modules=[kernel(isa) for isa in isas], cmdclass={"build_ext": BuildKernels})
