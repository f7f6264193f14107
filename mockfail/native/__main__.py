"""Compile the native libraries in place: ``python -m mockfail.native``."""

from mockfail.native import build

for library, file in build.FILES.items():
    build.compile_library(library, build.HERE / file)
