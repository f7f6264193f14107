"""Build the native libraries of mock-fail; everything else stands in pyproject.toml."""

import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

sys.path.insert(0, str(Path(__file__).parent))  # the build has no such path in isolation

from mockfail.native import FILES, build


class BuildNative(build_ext):
    """Compile with the C compiler alone: the libraries know nothing of Python."""

    def get_ext_filename(self, fullname: str) -> str:
        """Return the library's own name, without Python's suffix."""
        *packages, library = fullname.split(".")
        return str(Path(*packages, FILES[library]))

    def build_extension(self, ext: Extension) -> None:
        """Compile one; without a compiler everything but mock-fail is installed."""
        target = Path(self.get_ext_fullpath(ext.name))
        try:
            build.compile_library(ext.name.rpartition(".")[2], target)
        except build.CompilerError as error:
            self.warn(f"mock-fail will not work: {error}")


class AnyPython(bdist_wheel):
    """The wheel depends on the platform, and on no version of Python."""

    def get_tag(self) -> tuple[str, str, str]:
        """Return the tag of the platform alone."""
        return ("py3", "none", super().get_tag()[2])


def relative(paths: list[str]) -> list[str]:
    """Return the paths from here, as setuptools wants them."""
    return [str(Path(path).relative_to(Path(__file__).parent)) for path in paths]


setup(
    cmdclass={"build_ext": BuildNative, "bdist_wheel": AnyPython},
    ext_modules=[
        Extension(f"mockfail.native.{name}", relative(build.sources(name)), optional=True)
        for name in FILES
    ],
)
