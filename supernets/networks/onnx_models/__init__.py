"""Networks in ONNX files as torch modules: read within limits, run by torch's functions, compared with ONNX Runtime."""

# Each of these files registers its operators.
from supernets.networks.onnx_models import elementwise as elementwise
from supernets.networks.onnx_models import layers as layers
from supernets.networks.onnx_models import recurrent as recurrent
from supernets.networks.onnx_models import reductions as reductions
from supernets.networks.onnx_models import resizing as resizing
from supernets.networks.onnx_models import shapes as shapes
