"""Install the built wheel in fresh environments, as a user would, and import all of it there.

Decides: whether the wheel stands on its declared dependencies alone: once with the core's, once with each
extra's. Must never see the source tree: every import runs in an empty directory, in isolated mode.
`make package` calls it with the folder that holds the wheel, and the lock file that names the versions.
"""

import re
import subprocess
import sys
import tempfile
import venv
import zipfile
from email.parser import HeaderParser
from pathlib import Path

IMPORT_ALL = """
import importlib, pkgutil, sys, warnings
warnings.simplefilter("error")
for name in sys.argv[1:]:
    package = importlib.import_module(name)
    assert "site-packages" in package.__file__, package.__file__
    modules = [module.name for module in pkgutil.walk_packages(package.__path__, name + ".")]
    for module in modules:
        if not module.endswith("__main__"):
            importlib.import_module(module)
    print(f"  {name}: {len(modules)} modules imported")
"""

# What a package needs beyond the core, if anything: with the core alone, only `glasscache` must import.
NEEDS_EXTRA = {"glasscache_exporters": "exporters"}


def extras(wheel: Path) -> list[str]:
    """The extras that the wheel's metadata offers."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = HeaderParser().parsestr(archive.read(name).decode())
    return metadata.get_all("Provides-Extra", [])


def packages(wheel: Path) -> list[str]:
    """The wheel's top-level packages."""
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}
    return sorted(top for top in tops if not top.endswith(".dist-info"))


def importable(wheel: Path, extra: str | None) -> list[str]:
    """The packages that must import when the wheel is installed with this extra, or with none."""
    return [p for p in packages(wheel) if NEEDS_EXTRA.get(p) in (None, extra) or extra == "all"]


def versions(lock: Path) -> str:
    """The lock's versions without their hashes: as constraints beside a wheel that was just built."""
    return "\n".join(re.findall(r"^(\S+==[^\\\n]+)", lock.read_text("utf-8"), re.MULTILINE)) + "\n"


def check(wheel: Path, extra: str | None, lock: Path) -> None:
    """Install the wheel with this extra into a new environment, and import its packages there."""
    print(f"{wheel.name} with {f'extra {extra}' if extra else 'the core dependencies alone'}", flush=True)
    with tempfile.TemporaryDirectory(prefix="glasscache-package-") as folder:
        home = Path(folder)
        constraints = home / "constraints.txt"
        constraints.write_text(versions(lock), "utf-8")
        empty = home / "empty"
        empty.mkdir()
        environment = venv.EnvBuilder(with_pip=True)
        environment.create(home / "venv")
        python = environment.ensure_directories(home / "venv").env_exe

        target = f"{wheel}[{extra}]" if extra else str(wheel)
        pip = [python, "-m", "pip", "--disable-pip-version-check", "--no-input"]
        subprocess.run([*pip, "install", "--quiet", "--constraint", str(constraints), target], check=True)
        subprocess.run([*pip, "check"], check=True)
        subprocess.run([python, "-I", "-c", IMPORT_ALL, *importable(wheel, extra)], check=True, cwd=empty)


def main(folder: Path, lock: Path) -> None:
    """Check the one wheel in the folder with no extra, then with each."""
    (wheel,) = folder.resolve().glob("*.whl")
    for extra in [None, *extras(wheel)]:
        check(wheel, extra, lock)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
