"""Volumes of pods, as the kubelet writes them.

Rules kept here:
- What a container sees are links through `..data`; an update is a new folder, and one rename of that link.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from tests.deploy.containers import Spec


def update(volume: Path, files: Mapping[str, bytes]) -> None:
    """Give a volume these files, by their paths in it, in place of those that it has."""
    version = volume / f"..{len(list(volume.iterdir()))}"
    for path, content in files.items():
        (version / path).parent.mkdir(parents=True, exist_ok=True)
        (version / path).write_bytes(content)
    (volume / "..data_tmp").symlink_to(version.name)
    (volume / "..data_tmp").rename(volume / "..data")
    for name in {PurePosixPath(path).parts[0] for path in files}:
        if not (volume / name).is_symlink():
            (volume / name).symlink_to(f"..data/{name}")


def projected(pod: Spec, volume: str, secrets: Mapping[tuple[str, str], bytes]) -> dict[str, bytes]:
    """Return the files of a projected volume by their paths; `secrets` are by their names and keys."""
    [sources] = [one["projected"]["sources"] for one in pod["volumes"] if one["name"] == volume]
    return {
        item["path"]: secrets[source["secret"]["name"], item["key"]]
        for source in sources
        for item in source["secret"]["items"]
        if (source["secret"]["name"], item["key"]) in secrets
    }
