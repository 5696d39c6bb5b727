"""What is uploaded at a release: sdist and wheel, their metadata, and the wheel away from the repository."""
import email
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import rhmdiff

pytest.importorskip("build")
pytestmark = pytest.mark.slow
VERSION = rhmdiff.__version__


@pytest.fixture(scope="module")
def files(root) -> list[str]:
    "The files of the working tree that git does not ignore."
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.splitlines()
    return [name for name in listed if (root/name).is_file()]


@pytest.fixture(scope="module")
def built(root, files, tmp_path_factory) -> Path:
    "A folder with an sdist, made from a copy of the tree, and the wheel made from it."
    tree = tmp_path_factory.mktemp("tree")
    for name in files:
        (tree/name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root/name, tree/name)
    to = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", to, tree]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return to


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory) -> Path:
    "A folder in which the wheel alone is installed."
    to = tmp_path_factory.mktemp("installed")
    wheel = built/f"rhmdiff-{VERSION}-py3-none-any.whl"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", to, wheel], check=True)
    return to


def called(installed: Path, folder: Path, *arguments) -> subprocess.CompletedProcess:
    "A run of Python in `folder` that finds the installed wheel first."
    return subprocess.run([sys.executable, *map(str, arguments)], cwd=folder, capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": str(installed)})


def test_the_two_files_of_a_release(built):
    expected = [f"rhmdiff-{VERSION}-py3-none-any.whl", f"rhmdiff-{VERSION}.tar.gz"]
    assert sorted(x.name for x in built.iterdir()) == expected


def test_the_wheel_holds_the_package_alone(built, files):
    about = f"rhmdiff-{VERSION}.dist-info/"
    record = ["METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "top_level.txt"]
    package = [name for name in files if name.startswith("rhmdiff/")]
    assert "rhmdiff/py.typed" in package and "rhmdiff/engine/__init__.py" in package
    with zipfile.ZipFile(built/f"rhmdiff-{VERSION}-py3-none-any.whl") as wheel:
        assert sorted(wheel.namelist()) == sorted(package + [about + name for name in record])


def test_the_sdist_holds_what_the_wheel_is_made_from(built, files):
    package = [name for name in files if name.startswith("rhmdiff/")]
    beside = ["CHANGELOG.md", "CITATION.cff", "LICENSE", "MANIFEST.in", "README.md", "pyproject.toml"]
    with tarfile.open(built/f"rhmdiff-{VERSION}.tar.gz") as sdist:
        names = [member.name.split("/", 1)[1] for member in sdist if member.isfile()]
    made = [name for name in names if name in ("PKG-INFO", "setup.cfg") or ".egg-info/" in name]
    assert sorted(set(names) - set(made)) == sorted(package + beside)


def test_the_metadata_are_those_of_the_project(built, root):
    project = tomllib.loads((root/"pyproject.toml").read_text(encoding="utf-8"))["project"]
    with zipfile.ZipFile(built/f"rhmdiff-{VERSION}-py3-none-any.whl") as wheel:
        metadata = email.message_from_bytes(wheel.read(f"rhmdiff-{VERSION}.dist-info/METADATA"))
        entries = wheel.read(f"rhmdiff-{VERSION}.dist-info/entry_points.txt").decode()
    assert (metadata["Version"], metadata["License-Expression"]) == (VERSION, "MIT")
    assert metadata["Requires-Python"] == project["requires-python"]
    assert metadata.get_all("Classifier") == project["classifiers"]
    assert metadata.get_all("Provides-Extra") == list(project["optional-dependencies"])
    required = metadata.get_all("Requires-Dist")
    assert sorted(x for x in required if ";" not in x) == sorted(project["dependencies"])
    for extra, packages in project["optional-dependencies"].items():
        brought = [x.split(";")[0].strip() for x in required if f'extra == "{extra}"' in x]
        assert sorted(brought) == sorted(packages)
    assert "rhm = rhmdiff.__main__:main" in entries


def test_the_wheel_works_away_from_the_repository(installed, root, tmp_path):
    readme = (root/"README.md").read_text(encoding="utf-8")
    example = readme.split("```python\n")[1].split("```")[0]
    code = f"{example}\nprint(rhm.__file__, max(p.sum(-1).sub(1).abs().max() for p in beliefs.levels) < 1e-5)"
    done = called(installed, tmp_path, "-c", code)
    assert done.stdout.split() == [str(installed/"rhmdiff"/"__init__.py"), "tensor(True)"], done.stderr


def test_the_command_works_away_from_the_repository(installed, tmp_path):
    helped = called(installed, tmp_path, installed/"bin"/"rhm", "--help")
    assert helped.returncode == 0 and "Usage: rhm [OPTIONS] COMMAND" in helped.stdout, helped.stderr
    listed = called(installed, tmp_path, "-m", "rhmdiff", "status")
    assert (listed.returncode, listed.stderr.count("\n")) == (2, 1)
    assert "this installation has none" in listed.stderr
