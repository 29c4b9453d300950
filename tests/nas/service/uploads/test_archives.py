"""What is unpacked of archives that clients send."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from nas.errors import JobError, TooLargeError
from nas.jobs.schema import load_job
from nas.service.api.schemas import JobSubmission
from nas.service.service import Service
from nas.service.settings import Limits
from nas.service.uploads.archives import unpack
from nas.service.uploads.data_sets import chooser, counted
from tests.errors import raises
from tests.nas.commands import SMALL_JOB
from tests.nas.service.made_runs import tree
from tests.nas.service.sent_files import (
    bomb,
    claiming,
    encrypted,
    flowers,
    image,
    lying,
    packed,
    pickled,
    torch_file,
    with_link,
)

SMALL = Limits(archive_members=20, archive_bytes=2 * 2**20, archive_ratio=50)


def unpacked(tmp_path: Path, archive: bytes, limits: Limits = SMALL) -> tuple[int, tuple[str, ...], set[str]]:
    with unpack(io.BytesIO(archive), "a.zip", tmp_path, limits, chooser("")) as made:
        files = {str(p.relative_to(made)) for p in made.rglob("*") if p.is_file()}
        found = counted(made, "flowers")
        return found.images, found.classes, files


def test_classes_are_folders(tmp_path: Path) -> None:
    images, classes, files = unpacked(tmp_path, packed(flowers()))
    assert (images, classes) == (6, ("rose", "tulip"))
    assert files == set(flowers())
    assert list(tmp_path.iterdir()) == []  # it was moved nowhere


def test_parts_may_be_given_and_a_folder_around_everything_is_left_out(tmp_path: Path) -> None:
    parts = {f"{part}/{name}": content for part in ("train", "test") for name, content in flowers().items()}
    assert unpacked(tmp_path, packed(parts))[2] == set(parts)
    around = {f"my flowers/{name}": content for name, content in parts.items()}
    assert unpacked(tmp_path, packed(around))[2] == set(parts)
    train_alone = {f"train/{name}": content for name, content in flowers().items()}
    assert unpacked(tmp_path, packed(train_alone))[2] == set(train_alone)


def test_clutter_of_systems_is_left_out(tmp_path: Path) -> None:
    clutter = {"__MACOSX/rose/._0.png": b"x", "rose/.DS_Store": b"x", "rose/Thumbs.db": b"x", "rose/": b""}
    assert unpacked(tmp_path, packed({**flowers(), **clutter}))[2] == set(flowers())


def test_formats_are_recognized_by_content(tmp_path: Path) -> None:
    good = {"a/1.jpg": image(kind="JPEG"), "a/2.webp": image(kind="WEBP"), "b/3.BMP": image(kind="BMP")}
    assert unpacked(tmp_path, packed(good))[0] == 3
    with raises("archive.invalid", "JPEG", "a/1.jpg"):
        unpacked(tmp_path, packed({"a/1.jpg": image(kind="PNG")}))


REFUSED = {
    "traversal": {"../evil.png": image()},
    "deep traversal": {"rose/../../evil.png": image()},
    "absolute": {"/etc/evil.png": image()},
    "backslashes": {"rose\\..\\..\\evil.png": image()},
    "drive": {"C:/x/../evil.png": image()},
    "control character": {"rose/a\n.png": image()},
    "too deep": {"a/b/c/d/e/evil.png": image(), "x/y.png": image()},
    "hidden": {"rose/.evil.png": image()},
    "program": {"rose/evil.py": b"print()"},
    "archive inside": {"rose/evil.zip": packed(flowers())},
    "no image": {"rose/evil.png": b"<script>alert(1)</script>"},
    "empty image": {"rose/evil.png": b""},
    "nothing": {},
    "only folders": {"rose/": b""},
}


@pytest.mark.parametrize("members", REFUSED.values(), ids=REFUSED)
def test_anything_but_images_is_rejected(tmp_path: Path, members: dict[str, bytes]) -> None:
    outside = tmp_path / "outside"
    inside = outside / "inside"
    inside.mkdir(parents=True)
    with pytest.raises(JobError):
        unpacked(inside, packed(members))
    assert tree(tmp_path) == {"outside": None, "outside/inside": None}


def test_no_zip_archive_is_rejected(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    whole = packed(flowers())
    for content in (b"", b"PK", whole[: len(whole) // 2], whole[:-10], pickled(mark), torch_file(mark), image()):
        with pytest.raises(JobError):
            unpacked(tmp_path, content)
    assert list(tmp_path.iterdir()) == []


def test_links_and_encryption_are_rejected(tmp_path: Path) -> None:
    for content in (with_link(), encrypted(), packed({"a/1.png": image()}, method=zipfile.ZIP_LZMA)):
        with pytest.raises(JobError):
            unpacked(tmp_path, content)


def test_names_of_any_script_are_kept_within_the_limits_of_file_systems(tmp_path: Path) -> None:
    most = "漢" * 85  # of 3 bytes each, 255 in all
    content = io.BytesIO(packed({f"{most}/é.png": image(), "Äpfel/🍏.png": image()}))
    with unpack(content, "", tmp_path, Limits(), chooser("")) as made:
        assert counted(made, "flowers").classes == tuple(sorted(["Äpfel", most]))
        assert (made / most / "é.png").is_file()
    for name in (f"{most}x/a.png", f"a/{'🍏' * 63}.png"):
        with raises("archive.unsafe"):
            unpacked(tmp_path, packed({name: image()}))


def test_a_damaged_member_is_rejected(tmp_path: Path) -> None:
    whole = bytearray(packed({"rose/a.png": image((200, 200))}, method=zipfile.ZIP_STORED))
    whole[100] ^= 0xFF
    with raises("archive.damaged"):
        unpacked(tmp_path, bytes(whole))


def test_a_name_that_comes_twice_is_rejected(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("rose/a.png", image())
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("rose/a.png", image(shade=3))
    with raises("archive.invalid", "rose/a.png"):
        unpacked(tmp_path, out.getvalue())


def test_a_file_that_is_also_a_folder_is_rejected(tmp_path: Path) -> None:
    with raises("archive.invalid", "'rose/a.png' as a file and as a folder"):
        unpacked(tmp_path, packed({"rose/a.png": image(), "rose/a.png/b.png": image()}))


def test_limits_hold_where_an_archive_states_wrong_sizes(tmp_path: Path) -> None:
    many = {f"rose/{i}.png": image() for i in range(21)}
    large = {f"rose/{i}.png": image() + noise(700_000, i) for i in range(3)}
    for content in (packed(many), packed(large), bomb(1), bomb(8)):
        with pytest.raises(TooLargeError):
            unpacked(tmp_path, content)
    with pytest.raises((TooLargeError, JobError)):
        unpacked(tmp_path, lying())
    with raises("request.too-large", "9000"):
        unpacked(tmp_path, packed({"a/1.png": claiming(9000, 9000)}), Limits())
    assert list(tmp_path.iterdir()) == []


def noise(n: int, seed: int) -> bytes:
    """Bytes that do not pack."""
    return np.random.default_rng(seed).bytes(n)


def test_an_uploaded_data_set_is_named_by_jobs(service: Service) -> None:
    made = service.data_sets.add("flowers", io.BytesIO(packed(flowers())))
    assert (made.path, made.images, made.classes) == ("uploads/flowers", 6, ("rose", "tulip"))
    job = SMALL_JOB.replace("name: digits,", f"name: image-folder, path: {made.path},")
    run = service.submissions.submit(JobSubmission(job=job)).run
    path = load_job(service.settings.runs.get(run).job_file).data.path
    assert path is not None
    assert sorted(p.name for p in path.iterdir()) == ["rose", "tulip"]
    with raises("name.taken", "flowers"):
        service.data_sets.add("flowers", io.BytesIO(packed(flowers())))
    for bad in ("../flowers", "", "a/b", ".hidden", "<script>"):
        with raises("name.invalid"):
            service.data_sets.add(bad, io.BytesIO(packed(flowers())))
