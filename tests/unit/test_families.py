"""The families are found by listing their folder, wherever the package lies, and without torch."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

from lmfacts import models
from lmfacts.models import FAMILIES

FOLDER = Path(models.__file__).parent


def test_each_file_is_a_family_and_no_two_serve_one_model_type():
    files = {path.stem for path in (FOLDER / "families").glob("*.py")} - {"__init__"}
    families = set(FAMILIES.values())
    assert {family.describe.__module__.rpartition(".")[2] for family in families} == files
    assert {family.weight_table.__module__.rpartition(".")[2] for family in families} == files
    served = Counter(model_type for family in families for model_type in family.model_types)
    assert set(served.values()) == {1}
    assert served.keys() == FAMILIES.keys()


def test_they_are_found_in_a_zip_file_and_without_torch(tmp_path):
    archive = tmp_path / "lmfacts.zip"
    package = FOLDER.parent
    with zipfile.ZipFile(archive, "w") as packed:
        for path in package.rglob("*.py"):
            packed.write(path, Path("lmfacts") / path.relative_to(package))
    program = (
        "import sys, lmfacts.models; print(lmfacts.models.__file__); print('torch' in sys.modules); "
        "print(*lmfacts.models.FAMILIES)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(archive)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    place, has_torch, model_types = done.stdout.splitlines()
    assert place.startswith(str(archive))
    assert has_torch == "False"
    assert model_types.split() == list(FAMILIES)
