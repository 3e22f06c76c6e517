"""What is compiled of Cython, where the engine is plain Python: compiled for the tests that hold it to say the same."""

import shutil
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from gateway.http1 import scan
from hatch_build import NoCompiler, loops_compiled
from tests.serving import ROOT


def compiled(name: str, folder: Path) -> Any:
    """The module of that name: the engine's own where that is compiled, else one that is compiled in the folder."""
    if scan.COMPILED:
        return import_module(name)
    shutil.copy((ROOT / name.replace(".", "/")).with_suffix(".pyx"), folder)
    try:
        [library] = loops_compiled(folder)
    except NoCompiler as lacking:
        pytest.skip(f"nothing can be compiled: {lacking}")
    spec = spec_from_file_location(name.rpartition(".")[2], library)
    assert spec is not None
    assert spec.loader is not None
    found = module_from_spec(spec)
    spec.loader.exec_module(found)
    return found
