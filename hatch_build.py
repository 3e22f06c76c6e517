"""Compiles the engine when a wheel is built, where a C compiler is: the same modules at half the cost.

mypyc compiles what is Python, and Cython what looks at every byte of a head (`gateway/http1/quick.pyx`) or writes every
byte of a line of the access log (`gateway/proxy/line.pyx`), for which there is Python without. Which modules these are
stands in pyproject.toml, under the hook. Where they cannot be compiled, the wheel holds plain Python, which does the
same; GATEWAY_ENGINE=plain asks for that, and GATEWAY_ENGINE=compiled for no wheel without. What is installed in place
(`pip install -e`) stays plain, so that an edit counts at once: `python hatch_build.py FOLDER` makes a compiled copy of
the package there.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from sysconfig import get_config_var, get_path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_ROOT = Path(__file__).resolve().parent

# Where pip builds alone none of our dependencies is there. So nobody looks at their types, and what is compiled is the
# same everywhere; what is not compiled itself is not judged without them.
_ALONE = ("--config-file=", "--no-site-packages", "--ignore-missing-imports", "--follow-imports=silent")


class CannotCompile(Exception):
    """The text is what the compiler said last."""


class NoCompiler(CannotCompile):
    """There is none here, or it lacks Python's headers."""


class EngineBuildHook(BuildHookInterface):  # type: ignore[type-arg]  # of what it configures, nothing is used
    """Puts the compiled modules into a wheel."""

    _folder = ""  # where they are, until they are in it

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        wanted = os.environ.get("GATEWAY_ENGINE", "")
        if version == "editable" or wanted == "plain":
            return
        folder = self._folder = tempfile.mkdtemp(prefix="gateway-engine-")
        try:
            made = compiled(Path(folder), self.config)
        except CannotCompile as exc:
            shutil.rmtree(folder, ignore_errors=True)
            if wanted == "compiled":
                raise
            self.app.display_warning(f"the engine is not compiled, and works in plain Python: {exc}")
        else:
            build_data["force_include"] |= {str(file): str(file.relative_to(folder)) for file in made}
            build_data["pure_python"] = False
            build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002  # hatchling's
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)


def compiled(folder: Path, hook: dict[str, Any]) -> list[Path]:
    """Copy the package into an empty folder, compile its `modules` but for the `plain` ones, and return the libraries.

    Raises CannotCompile.
    """
    _find_compiler()
    shutil.copytree(_ROOT / "gateway", folder / "gateway", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    found = [str(file.relative_to(folder)) for pattern in hook["modules"] for file in sorted(folder.glob(pattern))]
    modules = [module for module in found if not module.endswith("__init__.py") and module not in hook["plain"]]
    _run("mypyc", *_ALONE, *modules, folder=folder)
    shutil.rmtree(folder / "build")
    loops_compiled(folder)
    return sorted(folder.glob("*.so")) + sorted(folder.glob("gateway/**/*.so"))


def loops_compiled(folder: Path) -> list[Path]:
    """Compile what a folder, and those in it, hold of Cython, and return the libraries. Raises CannotCompile."""
    _find_compiler()
    sources = [str(file.relative_to(folder)) for file in sorted(folder.rglob("*.pyx"))]
    _run("Cython.Build.Cythonize", "--inplace", "--quiet", *sources, folder=folder)
    shutil.rmtree(folder / "build", ignore_errors=True)
    return sorted(folder.rglob("*.so"))


def _find_compiler() -> None:
    if shutil.which(str(get_config_var("CC")).split()[0]) is None or not Path(get_path("include"), "Python.h").exists():
        raise NoCompiler("it needs a C compiler and Python's headers (the packages gcc and python3-dev)")


def _run(compiler: str, *given: str, folder: Path) -> None:
    """Run a module that compiles what it is given, in a folder. Raises CannotCompile."""
    # Its own distutils have left Python with 3.12; setuptools, once imported, has them in their place.
    run = f"import runpy, setuptools; runpy.run_module({compiler!r}, run_name='__main__', alter_sys=True)"
    command = [sys.executable, "-c", run, *given]
    # Nobody puts another function in the place of one of the library's, so that they may call each other directly. A
    # scan looks at many bytes in one step with -O3 alone, for which the Python of a distribution does not ask.
    flags = f"{os.environ.get('CFLAGS', get_config_var('CFLAGS'))} -O3 -fvisibility=hidden -fno-semantic-interposition"
    environment = {
        "MYPYC_DEBUG_LEVEL": "0",
        **os.environ,
        "CFLAGS": flags,
        "MYPY_CACHE_DIR": str(folder / "build" / "types"),
    }
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stdout + done.stderr).splitlines()
        raise CannotCompile("\n".join([line for line in said if "error:" in line][:5] or said[-5:]))


def main() -> None:
    """Make a compiled copy in an empty folder; the exit code is 3 where there is no compiler."""
    hook = tomllib.loads((_ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]
    try:
        compiled(Path(sys.argv[1]), hook["custom"])
    except CannotCompile as exc:
        print(f"the engine is not compiled: {exc}", file=sys.stderr)  # noqa: T201  # a command's own text
        sys.exit(3 if isinstance(exc, NoCompiler) else 1)


if __name__ == "__main__":
    main()
