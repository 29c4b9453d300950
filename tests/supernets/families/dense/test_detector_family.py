from nas.plugins.testing import FamilyContract
from supernets.families.dense.detector_family import DetectorFamily
from supernets.families.dense.detector_spec import DetectorSpec, DETECTOR
from supernets.families.dense.segmenter_family import SegmenterFamily
from supernets.families.dense.segmenter_spec import SEGMENTER

class TestDetector(FamilyContract):
    @staticmethod
    def make():
        return DetectorFamily(DETECTOR["tiny"], image_size=32, channels=1, n_classes=3)

class TestSegmenter(FamilyContract):
    @staticmethod
    def make():
        return SegmenterFamily(SEGMENTER["tiny"], image_size=32, channels=1, n_classes=3)
