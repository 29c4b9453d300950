"""The contract of data sets: a class to subclass as `Test...` with a `make`."""

from __future__ import annotations

from abc import abstractmethod

from nas.plugins import Kind, check, of_object
from supernets.data import DataSet, Examples, LabelledData, Source, checked_source, data_set_of


class DataContract:
    """Inherit and give `make`."""

    @staticmethod
    @abstractmethod
    def make() -> LabelledData:
        """The data set, as a job makes it of its settings."""

    def source(self) -> Source:
        """Loads the data of a fresh object, and checks them as a job does."""
        return checked_source(self.make().load(), "the data set")

    def split(self) -> DataSet:
        """The data set that a job makes of these data."""
        return data_set_of("own", self.source())

    def test_it_has_the_parts_of_a_data_set(self) -> None:
        check(of_object(Kind.DATA, type(self.make())), type(self.make()), LabelledData)

    def test_what_it_loads_is_well_formed(self) -> None:
        source = self.source()
        assert all(len(part) > 0 for part in _parts(source))

    def test_examples_have_different_names(self) -> None:
        """Errors and the listing of the parts identify examples by their names."""
        names = [name for part in _parts(self.source()) for name in part.names]
        assert len(set(names)) == len(names)

    def test_every_load_gives_the_same(self) -> None:
        """A resumed run and an export load the data again."""
        assert _digests(self.split()) == _digests(self.split())

    def test_it_can_be_divided_into_parts_that_share_no_example(self) -> None:
        data = self.split()
        parts = [set(part.names) for part in (data.train, data.validation, data.test)]
        assert all(parts)
        assert len(set.union(*parts)) == sum(map(len, parts))


def _parts(source: Source) -> list[Examples]:
    return [part for part in (source.train, source.validation, source.test) if part is not None]


def _digests(data: DataSet) -> list[str]:
    return [part.digest for part in (data.train, data.validation, data.test)]
