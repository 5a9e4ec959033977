"""Builds models/native.cpp once per instruction set; a machine that cannot compile it installs without it."""

import platform
import runpy
import shutil
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

FLAGS = ["-std=c++17", "-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off", "-fvisibility=hidden"]
MODELS = Path(__file__).parent / "models"
SOURCES = runpy.run_path(str(MODELS / "compiled.py"))["digest_of_sources"](MODELS)
SETS = {"sweeper.models._native": []}
if platform.machine().lower() in ("x86_64", "amd64"):
    SETS |= {"sweeper.models._native_v3": ["-march=x86-64-v3"], "sweeper.models._native_v4": ["-march=x86-64-v4"]}


class BuildVariants(build_ext):
    """Keeps the object files of the variants, which come from one source, apart."""

    def build_extension(self, ext):
        """Build one variant in a folder of its own, unless it lies in models/ and is newer than what it comes from."""
        target = Path(self.get_ext_fullpath(ext.name))
        known, sources = MODELS / target.name, [*MODELS.glob("native*.cpp"), *MODELS.glob("native*.h"), Path(__file__)]
        if not self.force and known.exists() and known.stat().st_mtime > max(file.stat().st_mtime for file in sources):
            target.parent.mkdir(parents=True, exist_ok=True)
            if not (target.exists() and target.samefile(known)):
                shutil.copy2(known, target)
            return
        shared = self.build_temp
        self.build_temp = f"{shared}/{ext.name}"
        try:
            super().build_extension(ext)
        finally:
            self.build_temp = shared


setup(
    cmdclass={"build_ext": BuildVariants},
    ext_modules=[
        Extension(
            name,
            ["models/native.cpp"],
            depends=sorted(f"models/{file.name}" for file in MODELS.glob("native*.h")),
            extra_compile_args=[*FLAGS, *flags, f'-DCOHORT_SOURCES="{SOURCES}"', "-pthread"],
            extra_link_args=["-pthread"],
            optional=True,
        )
        for name, flags in SETS.items()
    ],
)
