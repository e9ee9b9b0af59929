"""The keyword rule, which stands in where the predictor's weights are missing, on everyday wordings."""

from __future__ import annotations

import pytest

from emu_edit.core.errors import EmuEditError
from emu_edit.core.predictor import predict_task
from emu_edit.core.predictors.keywords import by_keywords
from emu_edit.core.tasks import TASK_IDS

EVERYDAY = {
    "local": [
        "make the ball blue",
        "Replace the cat with a dog.",
        "change her dress to red",
        "make him smile",
        "turn the car into a horse carriage",
        "make the tree bigger",
        "make the ball darker",
        "Swap the apple for an orange",
    ],
    "remove": [
        "remove the red ball",
        "Get rid of the people in the back",
        "erase the car, please",
        "make the dog disappear",
        "take the hat off",
        "I don't want the lamp",
        "delete the painting from the wall",
    ],
    "add": [
        "add a hat to the dog",
        "put sunglasses on her",
        "there should be a bird in the sky",
        "Insert a boat on the left",
        "give him a moustache",
        "place a cup next to the book",
        "add a tree in the background",
        "hang a painting on the wall",
        "add a wooden chair",
    ],
    "texture": [
        "make the ball striped",
        "cover the table with moss",
        "turn the statue into marble",
        "make the car out of wood",
        "give the cup a polka dot pattern",
        "give the cup a leopard print",
        "add stripes to the cube",
    ],
    "background": [
        "change the background to a beach",
        "put it on the moon",
        "replace the backdrop with a city street",
        "move the scene to a forest",
        "make the background blurry",
    ],
    "global": [
        "make it winter",
        "turn day into night",
        "what would it look like in the rain?",
        "add some fog",
        "change the season to autumn",
        "make the weather stormy",
        "let it snow",
    ],
    "style": [
        "make it a watercolor painting",
        "in the style of Van Gogh",
        "turn the photo into pixel art",
        "convert to anime style",
        "make it look like a comic",
        "turn it into an oil painting",
    ],
    "text": [
        'write "hello" at the top',
        "change the text to OPEN",
        "add the word sale in red letters",
        "remove the watermark",
        "make the sign say \u201cclosed\u201d",
    ],
    "detect": [
        "detect the ball",
        "find the red cup",
        "draw a box around the cat",
        "where is the star?",
        "locate all the people",
    ],
    "segment": [
        "segment the ball",
        "highlight the tree",
        "mask the car",
        "mark the pixels of the fish",
        "show the mask of the boat",
    ],
    "color": [
        "make it brighter",
        "turn the picture black and white",
        "increase the contrast",
        "blur the image",
        "more saturated colors",
        "darken the photo",
        "make the colors warmer",
        "sharpen it",
        "add a sepia tint",
        "remove the color from the photo",
    ],
    "depth": ["show the depth map", "turn this depth map into a photo", "estimate the depth"],
    "segmentation": ["make a segmentation map", "make a photo of this segmentation", "label every pixel"],
    "pose": ["show the pose skeleton", "detect the pose of the dancer", "make a person from this pose map"],
    "normal": ["compute the normal map", "show the surface normals", "make a picture from this normal map"],
    "sketch": ["turn it into a line drawing", "make a photo from this sketch", "show only the outlines"],
}


@pytest.mark.parametrize(("task", "wording"), [(t, w) for t, all_ in EVERYDAY.items() for w in all_])
def test_everyday_wordings(task, wording):
    guess = by_keywords(wording)
    assert guess.task == task, guess.reason
    assert guess.reason


def test_every_task_is_covered():
    assert tuple(EVERYDAY) == TASK_IDS


def test_case_politeness_and_spaces_do_not_matter():
    for wording in ("REMOVE THE BALL", "please remove the ball", "Could you  remove\nthe ball please?!"):
        assert by_keywords(wording).task == "remove"


def test_what_says_nothing_is_local_and_says_so():
    assert by_keywords("abracadabra").task == "local"
    assert "no sign" in by_keywords("abracadabra").reason
    assert by_keywords("mach den Ball blau").task in TASK_IDS


@pytest.mark.parametrize("nothing", ["", "   ", "?!", "\n"])
def test_nothing_is_refused(nothing):
    with pytest.raises(EmuEditError, match="empty"):
        by_keywords(nothing)


def test_the_bundled_predictor_knows_them_too():
    pairs = [(task, wording) for task, wordings in EVERYDAY.items() for wording in wordings]
    right = sum(predict_task(wording) == task for task, wording in pairs)
    assert right >= 0.95 * len(pairs)
