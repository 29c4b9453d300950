"""`supernets.data.image_folder`: the layouts that are read, and a clear error for every other."""

from __future__ import annotations

import os
import socket
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from supernets.data import ImageOptions, image_folder, image_memory, load_data
from supernets.data.image_folder import read_image
from tests.errors import raises
from tests.supernets.data.raw import raw_rows


def write_images(folder: Path, n: int, *, size: tuple[int, int] = (12, 12), mode: str = "RGB", seed: int = 0) -> None:
    """`n` different images of noise, ``00.png`` and on."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, *folder.name.encode()])
    for i in range(n):
        noise = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
        noise.convert(mode).save(folder / f"{i:02}.png")


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """A folder of two classes with 10 images each."""
    for name in ("dog", "cat"):
        write_images(tmp_path / "pets" / name, 10)
    return tmp_path / "pets"


class TestImageFolder:
    def test_one_folder_a_class_is_split(self, pets: Path) -> None:
        data = load_data("image-folder", path=pets)
        assert [len(p) for p in (data.train, data.validation, data.test)] == [12, 4, 4]
        assert [p.labels.bincount().tolist() for p in (data.train, data.validation, data.test)] == [
            [6] * 2,
            [2] * 2,
            [2] * 2,
        ]
        assert (data.class_names, data.images.image_size, data.images.channels) == (("cat", "dog"), 12, 3)
        expected = {
            np.asarray(Image.open(file)).transpose(2, 0, 1).tobytes(): ("cat", "dog").index(file.parent.name)
            for file in pets.rglob("*.png")
        }
        found: dict[bytes, int] = {}
        for part in (data.train, data.validation, data.test):
            found.update(zip(raw_rows(data, part), part.labels.tolist(), strict=True))
        assert found == expected

    def test_sixteen_bits_of_grey_are_scaled(self, tmp_path: Path) -> None:
        """Levels from 0 to 65535 become the nearest of 0 to 255, as Pillow reads 16-bit images in colour: not clipped."""
        rng = np.random.default_rng(1)
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            for i in range(4):
                levels = rng.integers(0, 2**16, (12, 12), dtype=np.uint16)
                levels[0, :3] = 0, 2**16 - 1, 300
                Image.fromarray(levels).save(tmp_path / name / f"{i}.png")
        data = load_data("image-folder", path=tmp_path)
        assert data.images.channels == 1
        expected = {
            np.rint(np.asarray(Image.open(file)) / 257).astype(np.uint8).tobytes() for file in tmp_path.rglob("*.png")
        }
        assert {row for part in (data.train, data.validation, data.test) for row in raw_rows(data, part)} == expected
        colours = load_data("image-folder", path=tmp_path, options=ImageOptions(channels=3))
        assert colours.train.inputs.shape[1:] == (3, 12, 12)

    @pytest.mark.parametrize("validation", ["val", "validation"])
    def test_the_users_own_parts_are_kept(self, tmp_path: Path, validation: str) -> None:
        for seed, (part, n) in enumerate({"train": 6, validation: 2, "test": 3}.items()):
            for name in ("a", "b"):
                write_images(tmp_path / part / name, n, seed=seed)
        data = load_data("image-folder", path=tmp_path)
        assert [len(p) for p in (data.train, data.validation, data.test)] == [12, 4, 6]
        expected = {np.asarray(Image.open(f)).transpose(2, 0, 1).tobytes() for f in (tmp_path / "test").rglob("*.png")}
        assert set(raw_rows(data, data.test)) == expected

    def test_parts_that_the_user_lacks_are_taken_from_train(self, tmp_path: Path) -> None:
        for seed, (part, n) in enumerate({"train": 10, "test": 3}.items()):
            for name in ("a", "b"):
                write_images(tmp_path / part / name, n, seed=seed)
        data = load_data("image-folder", path=tmp_path, validation=0.3)
        assert [len(p) for p in (data.train, data.validation, data.test)] == [14, 6, 6]

    def test_a_class_may_be_named_train(self, tmp_path: Path) -> None:
        for name in ("bus", "train"):
            write_images(tmp_path / name, 5)
        assert load_data("image-folder", path=tmp_path).class_names == ("bus", "train")

    def test_grey_images_have_one_channel_unless_asked_otherwise(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            write_images(tmp_path / name, 5, mode="L")
        assert load_data("image-folder", path=tmp_path).train.inputs.shape == (6, 1, 12, 12)
        assert load_data("image-folder", path=tmp_path, options=ImageOptions(channels=3)).train.inputs.shape == (
            6,
            3,
            12,
            12,
        )

    def test_images_are_resized_by_the_short_side_and_cut_in_the_middle(self, tmp_path: Path) -> None:
        for name, size in (("wide", (60, 20)), ("tall", (20, 60))):
            write_images(tmp_path / name, 3, size=size, mode="L")
        data = load_data("image-folder", path=tmp_path, options=ImageOptions(image_size=4))
        expected = set()
        for file in tmp_path.rglob("*.png"):
            image = Image.open(file)
            resized = image.resize((image.width // 5, image.height), Image.Resampling.BILINEAR)
            resized = resized.resize((image.width // 5, image.height // 5), Image.Resampling.BILINEAR)
            left, top = (resized.width - 4) // 2, (resized.height - 4) // 2
            expected.add(resized.crop((left, top, left + 4, top + 4)).tobytes())
        assert {row for p in (data.train, data.validation, data.test) for row in raw_rows(data, p)} == expected

    def test_every_format_and_mode_of_eight_bits_is_read(self, tmp_path: Path) -> None:
        kinds = [("JPG", "RGB"), ("jpeg", "CMYK"), ("bmp", "L"), ("webp", "RGBA"), ("png", "LA"), ("png", "1")]
        for seed, name in enumerate(("a", "b")):
            rng = np.random.default_rng(seed)
            (tmp_path / name).mkdir()
            for i, (suffix, mode) in enumerate(kinds):
                noise = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
                noise.convert(mode).save(tmp_path / name / f"{i}.{suffix}")
            noise.convert("P").save(tmp_path / name / "palette.png", transparency=bytes((0, 1)))
            (tmp_path / name / ".DS_Store").write_text("clutter")
            (tmp_path / name / "Thumbs.db").write_text("clutter")
        data = load_data("image-folder", path=tmp_path)
        assert sum(map(len, (data.train, data.validation, data.test))) == 14
        assert data.images.channels == 3

    def test_turned_photographs_are_set_upright(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            write_images(tmp_path / name, 3)
        upright = load_data("image-folder", path=tmp_path).train.digest
        for file in tmp_path.rglob("*.png"):
            exif = Image.Exif()
            exif[0x0112] = 6  # orientation: turn by 90 degrees clockwise to see it upright
            Image.open(file).transpose(Image.Transpose.ROTATE_90).save(file, exif=exif)
        assert load_data("image-folder", path=tmp_path).train.digest == upright

    def test_too_much_for_memory_is_refused_before_it_is_read(
        self, pets: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with raises("data.too-large", "20 images", "9000x9000", "18.1 GiB", "4 GiB"):
            load_data("image-folder", path=pets, options=ImageOptions(image_size=9000))
        monkeypatch.setattr(image_memory, "MAX_GIB", 20 * 12 * 12 * 3 * 4 / 2**30)
        assert len(load_data("image-folder", path=pets).train) == 12  # the bound itself is allowed


class TestImageFolderErrors:
    def check(self, path: Path, error: str) -> None:
        with raises(*error.split(" | ")) as caught:
            load_data("image-folder", path=path)
        assert str(path) in str(caught.value)
        assert str(caught.value).count("\n") <= 1

    def test_no_path(self) -> None:
        with raises("data.missing", "image-folder"):
            load_data("image-folder")

    def test_missing_folder(self, tmp_path: Path) -> None:
        self.check(tmp_path / "nowhere", "data.missing | nowhere")

    def test_file_in_place_of_a_folder(self, pets: Path) -> None:
        self.check(pets / "cat" / "00.png", "data.missing | 00.png")

    def test_empty_folder(self, tmp_path: Path) -> None:
        self.check(tmp_path, "data.layout | path/CLASS/IMAGE")

    def test_empty_class(self, pets: Path) -> None:
        (pets / "bird").mkdir()
        self.check(pets, "data.layout | bird")

    def test_one_image(self, tmp_path: Path) -> None:
        write_images(tmp_path / "cat", 1)
        self.check(tmp_path, "data.unsplittable | 1 | cat: 1 image")

    def test_one_class(self, tmp_path: Path) -> None:
        write_images(tmp_path / "cat", 9)
        self.check(tmp_path, "data.unsplittable | cat: 9 image")

    def test_class_with_too_few_images(self, pets: Path) -> None:
        write_images(pets / "bird", 2)
        self.check(pets, "data.unsplittable | 'bird' | 2 | 3 | train | validation | test")

    def test_class_with_too_few_different_images(self, pets: Path) -> None:
        write_images(pets / "bird", 2)
        for i in range(5):
            (pets / "bird" / f"copy{i}.png").write_bytes((pets / "bird" / "00.png").read_bytes())
        self.check(pets, "data.unsplittable | 'bird' | 2")

    def test_images_outside_of_class_folders(self, pets: Path) -> None:
        write_images(pets, 2)
        self.check(pets, "data.layout | 2 | (00.png, 01.png)")

    def test_folder_inside_a_class(self, pets: Path) -> None:
        write_images(pets / "cat" / "kittens", 1)
        self.check(pets, "data.layout | kittens")

    def test_file_that_is_no_image(self, pets: Path) -> None:
        (pets / "cat" / "a.gif").write_bytes(b"GIF89a")
        self.check(pets, "data.layout | a.gif | .png")

    @pytest.mark.parametrize("content", [b"", b"no image", "half"])
    def test_unreadable_image(self, pets: Path, content: bytes | str) -> None:
        file = pets / "dog" / "05.png"
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2] if isinstance(content, str) else content)
        self.check(pets, "data.unreadable | 05.png | PNG, JPEG, BMP or WEBP")

    def test_far_too_large_an_image(self, pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_images(pets / "dog", 1, size=(16, 16))
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 255)
        self.check(pets, "data.unreadable | dog/00.png | bomb")

    @pytest.mark.parametrize("kind", ["pipe", "socket", "broken-link", "device"])
    def test_what_is_no_regular_file(self, pets: Path, kind: str) -> None:
        file = pets / "dog" / "special.png"
        match kind:
            case "pipe":
                os.mkfifo(file)
            case "socket":
                with socket.socket(socket.AF_UNIX) as made:
                    made.bind(os.path.relpath(file))  # the whole path may be too long for a socket
            case "device":
                file.symlink_to("/dev/zero")
            case _:
                file.symlink_to(pets / "gone.png")
        self.check(pets, "data.unreadable | special.png")

    def test_a_folder_in_place_of_an_image(self, pets: Path) -> None:
        with raises("data.unreadable", "is a folder"):
            read_image(pets / "dog", channels=1)

    def test_different_sizes_without_an_image_size(self, pets: Path) -> None:
        write_images(pets / "dog", 1, size=(9, 20))
        self.check(pets, "data.invalid-option | 2 | 12x12 | 20x9")
        assert load_data("image-folder", path=pets, options=ImageOptions(image_size=9)).images.image_size == 9

    def test_parts_beside_other_folders(self, tmp_path: Path) -> None:
        for part in ("train", "extra"):
            write_images(tmp_path / part / "a", 3)
        self.check(tmp_path, "data.layout | extra | train | val")

    def test_validation_twice(self, tmp_path: Path) -> None:
        for part in ("train", "val", "validation"):
            write_images(tmp_path / part / "a", 3)
        self.check(tmp_path, "data.layout | train | val | validation")

    def test_test_part_without_train(self, tmp_path: Path) -> None:
        write_images(tmp_path / "test" / "a", 3)
        self.check(tmp_path, "data.layout | test | train")

    def test_parts_with_different_classes(self, tmp_path: Path) -> None:
        for seed, folder in enumerate(("train/a", "train/b", "test/a", "test/c")):
            write_images(tmp_path / folder, 3, seed=seed)
        self.check(tmp_path, "data.layout | test | train")
        for file in (tmp_path / "test" / "c").iterdir():
            file.unlink()
        (tmp_path / "test" / "c").rmdir()
        self.check(tmp_path, "data.unsplittable | 'b' | 0 | test | 1")

    def test_one_image_in_train_and_test(self, tmp_path: Path) -> None:
        for seed, folder in enumerate(("train/a", "train/b", "test/a", "test/b")):
            write_images(tmp_path / folder, 3, seed=seed)
        Image.open(tmp_path / "train" / "b" / "01.png").save(
            tmp_path / "test" / "b" / "x.bmp"
        )  # other bytes, same pixels
        self.check(tmp_path, "data.duplicate | 01.png (train) | x.bmp (test)")

    def test_one_image_in_two_classes(self, pets: Path) -> None:
        (pets / "dog" / "x.png").write_bytes((pets / "cat" / "03.png").read_bytes())
        self.check(pets, "data.duplicate | 03.png | x.png | (cat, dog)")


class TestUnreadableImages:
    @pytest.fixture
    def mixed(self, pets: Path) -> Path:
        """The pets, of which six cannot be used: no header, a half, no pixels, a pipe, another format, another kind of file."""
        (pets / "cat" / "00.png").write_bytes(b"no image")
        half = pets / "dog" / "01.png"
        half.write_bytes(half.read_bytes()[:200])
        (pets / "dog" / "02.png").write_bytes(b"")
        os.mkfifo(pets / "cat" / "pipe.png")
        Image.new("RGB", (12, 12)).save(pets / "dog" / "03.gif")
        (pets / "cat" / "notes.txt").write_text("cats")
        return pets

    BAD = ("cat/00.png", "cat/notes.txt", "cat/pipe.png", "dog/01.png", "dog/02.png", "dog/03.gif")

    def test_all_are_listed_at_once(self, mixed: Path) -> None:
        with raises("data.unreadable", "6 files", "skip_unreadable") as caught:
            load_data("image-folder", path=mixed)
        lines = str(caught.value).splitlines()[1:]
        assert sorted(line.strip().partition(": ")[0] for line in lines) == list(self.BAD)

    def test_they_are_left_out_where_this_is_asked(self, mixed: Path) -> None:
        data = load_data("image-folder", path=mixed, options=ImageOptions(skip_unreadable=True))
        assert tuple(sorted(data.skipped)) == self.BAD
        assert data.warning.startswith("6 files cannot be used and were skipped: ")
        for name in self.BAD:
            (mixed / name).unlink()
        clean = load_data("image-folder", path=mixed)
        for part in ("train", "validation", "test"):
            assert getattr(clean, part).digest == getattr(data, part).digest
            assert getattr(clean, part).names == getattr(data, part).names

    @pytest.mark.parametrize("lost", ["train", "test"])
    def test_a_part_without_any_image_left_is_an_error(self, tmp_path: Path, lost: str) -> None:
        for seed, part in enumerate(("train", "test")):
            for name in ("a", "b"):
                write_images(tmp_path / part / name, 6, seed=seed)
        for file in (tmp_path / lost).rglob("*.png"):
            file.write_bytes(b"no image")
        with raises("data.unreadable", "12 files"):
            load_data("image-folder", path=tmp_path, options=ImageOptions(skip_unreadable=True))

    def test_long_reading_is_reported(self, pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[tuple[str, int, int]] = []
        load_data("image-folder", path=pets, on_progress=lambda *report: seen.append(report))
        assert not seen
        monkeypatch.setattr(image_folder, "_REPORT_S", 0.0)
        load_data("image-folder", path=pets, on_progress=lambda *report: seen.append(report))
        assert seen[-1] == ("reading images", 20, 20)
        monkeypatch.setattr(image_folder, "_REPORT_S", 1.0)
        monkeypatch.setattr(image_folder.time, "monotonic", count(0.0, 0.2).__next__)
        seen.clear()
        load_data("image-folder", path=pets, on_progress=lambda *report: seen.append(report))
        assert [done for phase, done, _ in seen if phase == "reading images"] == [5, 10, 15, 20]


class TestNames:
    def test_each_part_names_its_files(self, pets: Path) -> None:
        data = load_data("image-folder", path=pets)
        for part in (data.train, data.validation, data.test):
            rows = raw_rows(data, part)
            for name, row, label in zip(part.names, rows, part.labels.tolist(), strict=True):
                assert np.asarray(Image.open(pets / name)).transpose(2, 0, 1).tobytes() == row
                assert name.startswith(f"{data.class_names[label]}/")
