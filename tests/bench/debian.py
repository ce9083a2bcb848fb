"""Programs that are not on PyPI, and are compared with or measure: wrk, nginx, Varnish, Redis.

Decides where they come from: the path, or Debian's packages, which apt fetches and checks and which are only unpacked,
below build/bench-debian. Must never install anything, nor fail a benchmark because a program cannot be had.
"""

from __future__ import annotations

import os
import shutil
import subprocess

from tests.bench.peers import ROOT

FOLDER = ROOT / "build" / "bench-debian"
PACKAGES = (
    *("wrk", "libluajit-5.1-2", "libluajit-5.1-common"),
    *("nginx", "libpcre2-8-0"),
    *("varnish", "libvarnishapi3", "libjemalloc2", "libedit2", "libbsd0"),
    *("redis-server", "redis-tools", "liblzf1", "libhiredis0.14", "liblua5.1-0", "lua-cjson", "lua-bitop"),
)
PROGRAMS = ("wrk", "nginx", "varnishd", "redis-server")


def set_up() -> str:
    """Unpack what is missing; why that could not be done, or nothing."""
    folder = FOLDER
    if all(map(find, PROGRAMS)):
        return ""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return "there is no apt-get here"
    shutil.rmtree(folder, ignore_errors=True)
    packages = folder / "packages"
    packages.mkdir(parents=True)
    commands = [["apt-get", "-qq", "download", *PACKAGES]]
    if os.geteuid() == 0:
        commands.insert(0, ["apt-get", "-qq", "update"])
    for command in commands:
        done = subprocess.run(command, cwd=packages, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"{' '.join(command[:3])}: {(done.stderr.strip() or 'failed').splitlines()[-1]}"
    for package in sorted(packages.glob("*.deb")):
        subprocess.run(["dpkg-deb", "--extract", str(package), str(folder)], check=True)
    return ""


def find(name: str) -> str | None:
    """Where the program is."""
    return shutil.which(name) or shutil.which(name, path=f"{FOLDER}/usr/bin:{FOLDER}/usr/sbin")


def environment() -> dict[str, str]:
    """Of a program that may have been unpacked: where its libraries are."""
    libraries = [path.parent for path in sorted(FOLDER.glob("usr/lib/**/*.so.*"))]
    places = dict.fromkeys([*map(str, libraries), *os.environ.get("LD_LIBRARY_PATH", "").split(":")])
    return {**os.environ, "LD_LIBRARY_PATH": ":".join(filter(None, places))}
