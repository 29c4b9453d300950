from .data import (
    DataSet as DataSet,
)
from .data import (
    ImageOptions as ImageOptions,
)
from .data import (
    Part as Part,
)
from .data import (
    TextOptions as TextOptions,
)
from .data import (
    head as head,
)
from .data import (
    load_data as load_data,
)
from .errors import SupernetError as SupernetError
from .families.convolutional.mobile_cnn_family import MobileCNN as MobileCNN
from .families.convolutional.mobile_cnn_family import MobileCNNFamily as MobileCNNFamily
from .families.convolutional.mobile_cnn_spec import MOBILE_CNN as MOBILE_CNN
from .families.convolutional.mobile_cnn_spec import CNNSpec as CNNSpec
from .families.convolutional.mobile_cnn_spec import StageSpec as StageSpec
from .families.convolutional.resnet_family import ResNetFamily as ResNetFamily
from .families.convolutional.resnet_spec import RESNET as RESNET
from .families.convolutional.resnet_spec import ResNetSpec as ResNetSpec
from .families.encoder.encoder_family import EncoderFamily as EncoderFamily
from .families.encoder.encoder_spec import ENCODER as ENCODER
from .families.encoder.encoder_spec import EncoderSpec as EncoderSpec
from .families.vision_transformer.vision_transformer_family import ViTFamily as ViTFamily
from .families.vision_transformer.vision_transformer_spec import VIT as VIT
from .families.vision_transformer.vision_transformer_spec import ViTSpec as ViTSpec
from .networks.module_to_onnx import onnx_model as onnx_model
from .sharing.base import (
    Family as Family,
)
from .sharing.base import (
    Sharing as Sharing,
)
from .sharing.base import (
    Supernet as Supernet,
)
from .sharing.base import (
    TrainingStrategy as TrainingStrategy,
)
from .sharing.spec import MixtureSpec as MixtureSpec
from .sharing.spec import SharingSpec as SharingSpec
from .space import Architecture as Architecture
from .space import Choice as Choice
from .space import SearchSpace as SearchSpace
from .training.checkpoint import (
    load_checkpoint as load_checkpoint,
)
from .training.checkpoint import (
    make_supernet as make_supernet,
)
from .training.checkpoint import (
    save_checkpoint as save_checkpoint,
)
from .training.recalibration import recalibrate as recalibrate
from .training.strategies.attentive import AttentiveStrategy as AttentiveStrategy
from .training.strategies.progressive import ProgressiveStrategy as ProgressiveStrategy
from .training.strategies.single_phase import (
    LargestStrategy as LargestStrategy,
)
from .training.strategies.single_phase import (
    SandwichStrategy as SandwichStrategy,
)
from .training.strategies.single_phase import (
    SinglePathStrategy as SinglePathStrategy,
)
from .training.strategies.single_phase import (
    SortedStrategy as SortedStrategy,
)
from .training.trainer import train as train
from .training.training_loop import TrainingSettings as TrainingSettings
