"""The graph blocks: thin classes that read sockets, call core, and return sockets."""

from typing import Any

from .control import AttentionControl
from .detectors import LoadDetector, TextToMask
from .edit import EditByInstruction
from .families import TaskForEditor
from .filters import FilterPairs
from .instructions import WriteInstructions
from .inversion import TaskExamples, TaskInversion
from .loaders import LoadEditor
from .pair_files import SavePairs
from .pair_sheet import InspectPair
from .pairs import MakePair
from .pictures import ExamplePicture
from .predict import PredictTask
from .score import Compare, Scores
from .scorers import LoadScorer
from .sequence import SequentialEditThreshold
from .size_guard import SizeGuard, SizeRestore
from .soft_mask import MaskPreview, SoftMask
from .tasks import PickTask
from .text_to_image import LoadTextToImage

_NODES: tuple[Any, ...] = (
    LoadEditor,
    ExamplePicture,
    PickTask,
    EditByInstruction,
    SequentialEditThreshold,
    LoadScorer,
    Scores,
    Compare,
    TaskForEditor,
    SizeGuard,
    SizeRestore,
    PredictTask,
    LoadDetector,
    TextToMask,
    SoftMask,
    MaskPreview,
    TaskExamples,
    TaskInversion,
    WriteInstructions,
    FilterPairs,
    LoadTextToImage,
    AttentionControl,
    MakePair,
    InspectPair,
    SavePairs,
)

# The ids are written into every saved workflow: never rename one.
NODE_CLASS_MAPPINGS: dict[str, Any] = {node.ID: node for node in _NODES}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {node.ID: node.DISPLAY_NAME for node in _NODES}
