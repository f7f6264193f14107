"""Compile the native libraries in place, where they are older than their sources.

python -m mockfail.native
"""

from mockfail.native import FILES, build

for library, file in FILES.items():
    if not build.is_current(library):
        build.compile_library(library, build.HERE / file)
