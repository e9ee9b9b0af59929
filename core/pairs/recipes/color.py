"""Color: a photometric change of a real picture by a random amount (appendix 7.2.5: colour adjustments, blur,
sharpening, defocus). The kind of change follows the words of the instruction; amounts are not in the paper.
"""

from __future__ import annotations

import math
import re

import torch
import torch.nn.functional as F
from torch import Tensor

from ...filters import gaussian_low_pass
from ...masks.wordings import PICTURE
from ..records import Candidate, PairJob
from .base import Draw, NoCandidate, RecipeContext, real_picture, start

GREY = (0.299, 0.587, 0.114)


def _words(text: str) -> str:
    """Any of the words, each of which may be a pattern without blanks."""
    return rf"\b(?:{'|'.join(text.split())})\b"


PHOTO = rf"(?:\w+ )?(?:{PICTURE}|footage|room|area|part|region|corner|shadow)s?\b"
THING = _words(r"it this that the these those my our your all every\w*")  # what a verb is followed by
STATE = r"black and white|" + _words(
    r"(?:over|under|un|de)?-?(?:exposed|saturated) bright dark dim gloomy sharp crisp blurr?(?:ed|y) vivid "
    r"vibrant colorful intense dull pale faded muted warm cool cold flat gr[ae]yscale monochrome sepia "
    r"vintage"
)
#: Words that tell how the picture is now or must not become: no part of the order, left out first.
GIVEN = re.compile(
    rf"\b(?:the|this|that|these|those|my|our|your)(?:,? (?:(?:and|very|too|so|rather|overly) )*(?:{STATE}))+"
    rf"(?= {PHOTO})|\b(?:not|instead of|rather than) (?:{STATE})(?! enough)|"
    r"\b(?:keep(?:ing)?|preserv\w+|without \w+ing) (?:the )?\w+|\b(?:soft|gentle|mild|weak)(?= (?:\w+ )?blur)"
)
CLAUSE = re.compile(r"(?<! it),|[;!?]|\.(?!\d)| (?:but|with|while) ")  # "lower it, the brightness" is one

MORE = _words(
    r"more increas\w+ rais\w+ boost\w* up higher add\w* enhanc\w+ amplif\w+ strengthen\w* lift\w* "
    r"intensif\w+ extra giv\w+ apply put doubl\w+"
)
LESS = _words(
    r"less fewer lessen\w* lower\w* reduc\w+ decreas\w+ diminish\w* minimi[sz]\w+ weaken\w* soften\w* "
    r"mut(?:e|ing) fade drop\w* cut\w* halv\w+ remov\w+ drain\w* strip without no"
)
LESS_OF = (
    r"\bdown\b(?! to an?\b)|\bget rid of|\b(?:dial|pull|scale)\w*(?= (?:\w+ ){0,3}back\b)|"
    r"\btak\w+(?= (?:\w+ ){0,3}(?:out|away|off)\b)|"
    r"(?:\bnot|n't(?: \w+){0,3}) (?:so|as)\b|\bwhy (?:is|are)\b|\bto (?:0|zero)\b|"
    r"(?<!\w)-\s?\d|\btoo (?:much|high|strong|harsh)\b|\btoo(?= \w)|"
    r"\b(?:fix|correct)\w*(?= (?:the |this |its )?(?:blur|oversat|overexp|underexp))|"
    # "The picture is dark, fix it" complains; "the picture is dark" is an order.
    rf"\b(?:is|are|looks?|came out|'s)(?= (?:[\w-]+ ){{0,2}}(?:{STATE})[,;.] "
    r"(?:so |please |(?:can|could|would) you )*(?:fix|correct|change|adjust|improve|repair|lift|do)\b)"
)
MORE_OF = r"\btoo (?:little|low|weak|few)\b|\+ ?\d"
#: Which way. The words of size, too, name a way, but only where none of the others does.
TURN = re.compile(rf"(?P<more>{MORE_OF}|{MORE})|(?P<less>{LESS_OF}|{LESS})")
BIG = _words("high (?:strong|deep|rich|bold|hard|harsh|great)(?:er)? max(?:imum)? heav(?:y|ier) full")
SMALL = _words("low (?:soft|weak|flat|gentle|mild)r?(?:er)? min(?:imum|imal)?")
SIZE = re.compile(rf"(?P<more>{BIG})|(?P<less>{SMALL})")
TURNS = rf"(?:{MORE_OF}|{MORE}|{LESS_OF}|{LESS})"
SIZES = rf"(?:{BIG}|{SMALL})"
LOOK = r"black and white|" + _words(r"gr[ae]yscale monochrome sepia vintage invert\w* negative")
OF_COLOR = r"(?! (?:cast|tint|tinge|noise|balance|contrast|saturat\w+|intensity|temperature)\b)"
NO_COLOR = (
    r"(?:(?:remov|tak|drain|strip)\w* (?:away |out |all |of |the )*|\b(?:without|no) (?:any )?)colors?\b"
    rf"{OF_COLOR}(?! (?:down|up|back)\b)"
)

#: What words ask for, tier by tier: (pattern, operation, sign of more of it; 0: it has none). An operation
#: that is "" is refused: the opposite of a look, such as the sepia taken away, cannot be computed.
Rows = tuple[tuple[str, str, int], ...]
VERBS: Rows = (  # what they say holds whatever else is said
    (rf"\b(?:less|undo|remov\w+|without|get rid of) (?:\w+ ){{0,2}}(?:{LOOK})", "", 0),
    (rf"\bblack and white|\bgr[ae]yscale|\bmonochrom|{NO_COLOR}", "grey", 0),
    (r"\bsepia|\bold[- ]fashioned|\bvintage", "sepia", 0),
    (r"\binvert|\bnegative", "invert", 0),
    (rf"\b(?:bright|light)en(?:s|ed|ing)?\b|\blight(?= {THING}.*\bup\b)", "brightness", 1),
    (rf"\bdarken(?:s|ed)?\b|\bdim(?= {THING}| down)|\bunderexpose\b", "brightness", -1),
    (r"\b(?:de|un)-?saturate\b|\bmute(?= (?:it|this)\b)", "saturation", -1),
    (r"\b(?:over-?)?saturates?\b", "saturation", 1),
    (r"\bsharpen(?:s|ed)?\b|\bunsharp|\b(?:de|un)-?blur", "sharpen", 1),
    (rf"(?<!the )(?<!less )\bblurs?(?= {THING})", "blur", 1),
    (rf"(?<!less )(?<!more )\bwarm(?= {THING}| up)", "warmth", 1),
    (rf"(?<!less )(?<!more )\bcool(?= {THING}| down| off)", "warmth", -1),
)
NOUNS: Rows = (  # how much of them is said anywhere in the clause
    (r"\bcontrast", "contrast", 1),
    (r"\b(?:over-?)?saturation|\bvibranc|\bvividness|\bcolorfulness|\bchroma\b|\bintensity", "saturation", 1),
    (
        r"\bbrightness|\b(?:over)?exposure|\blumin\w+|\blightness|\blight(?:ing)? (?:level|intensity)",
        "brightness",
        1,
    ),
    (r"\bdarkness|\bunderexposure|\bdarkening", "brightness", -1),
    (r"\bwarmth|\bwarmness|\btemperature", "warmth", 1),
    (r"\bcoolness|\bcoldness", "warmth", -1),
    (r"\bsharpness|\bcrispness|\bsharpening", "sharpen", 1),
    (r"\bblur(?:ring|riness)?\b", "blur", 1),
    (r"\bbokeh|\bdefocus\b", "defocus", 1),
)
COLORS: Rows = (  # no order without a word of how much right beside them
    (rf"{TURNS} (?:(?:the|these|those|all|some|any|of|overall|my) )*colors?\b{OF_COLOR}", "saturation", 1),
    (r"\bcolors?(?: (?:way|all|a bit|a little))* (?:up|down)\b", "saturation", 1),
    (rf"{TURNS} (?:(?:the|all|some|of|overall) )*light(?:s|ing)?\b", "brightness", 1),
)
COMPARATIVES: Rows = (  # of two words of a kind the one that compares is the order
    (r"\bbrighter|\blighter", "brightness", 1),
    (r"\bdarker|\bdimmer|\bgloomier", "brightness", -1),
    (r"\bwarmer|\byellower", "warmth", 1),
    (r"\bcolder|\bcooler|\bbluer", "warmth", -1),
    (r"\bsharper|\bcrisper", "sharpen", 1),
    (r"\bblurr?ier", "blur", 1),
    (r"\bflatter", "contrast", -1),
    (r"\bduller|\bpaler", "saturation", -1),
)
ADJECTIVES: Rows = (  # the last one said is how the picture shall be
    (r"\bflat", "contrast", -1),
    (r"\b(?:over-?)?saturated|\bvivid|\bvibrant|\bcolorful|\bintens", "saturation", 1),
    (
        r"\b(?:de|under|un)-?saturat|\bmuted|\bfaded?\b|\bwash(?:ed|.out)|\bdull\b|\bpale\b|\bsubdued",
        "saturation",
        -1,
    ),
    (r"\bwarm|\bgolden tint", "warmth", 1),
    (r"\bcold|\bcool", "warmth", -1),
    (r"\bdark|\bdim|\bgloomy|\bunderexpos", "brightness", -1),
    (r"\bbright|\boverexpos", "brightness", 1),
    (r"\bsharp|\bcrisp|\bin(?:to)? focus", "sharpen", 1),
    (r"\bdefocus|\bout of focus", "defocus", 1),
    (r"\bblurr?(?:ed|y)", "blur", 1),
)
PALETTE: Rows = (  # "deep colors" ask for something only where no word above does
    (rf"{SIZES} colors?\b{OF_COLOR}|\bcolors?(?: (?:be|look|a bit|a little|much))* {SIZES}", "saturation", 1),
)
OTHERS: Rows = (  # words that often stand beside an order without being one
    (r"\bsoft(?:en|er|\b(?! vignette))", "blur", 1),
    (r"\bmute\b", "saturation", -1),
    (r"\b(?:high)?light(?:s|ing)?\b", "brightness", 1),
    (r"\b(?:remov\w+|take away|without|less|get rid of|fix|correct) (?:\w+ ){0,3}(?:tint|hue)", "", 0),
    (r"\bhue|\btint|\bshift\w*.*\bcolors?", "hue", 0),
)
TIERS = (VERBS, NOUNS, COLORS, COMPARATIVES, ADJECTIVES, PALETTE, OTHERS)
OPPOSITE = {"blur": "sharpen", "defocus": "sharpen", "sharpen": "blur"}


def color(context: RecipeContext, job: PairJob, number: int) -> list[Candidate]:
    """The picture under the change that the instruction names."""
    draw = start(job, number)
    source = real_picture(context, job)
    # A pair made again follows its record, whatever its words are read as today.
    recorded = "operation" in draw.fixed
    operation, sign = ("", 0) if recorded else operation_of(job.instruction.instruction)
    target = adjust(source, draw.note("operation", operation), int(draw.note("sign", sign)), draw)
    return [Candidate(source, target, job.instruction, 0, draw.seed, "blank", {}, draw.parameters)]


def operation_of(instruction: str) -> tuple[str, int]:
    """(operation, sign) that an instruction asks for; NoCandidate when its words name none.

    First what is changed, then which way, so that no word for "less" has to stand where a pattern expects it.
    """
    text = " ".join(instruction.lower().replace("colour", "color").replace("\u2019", "'").split())
    text = GIVEN.sub("", text)
    for tier in TIERS:
        said = sorted(
            (hit.start(), hit.end(), operation, sign)
            for pattern, operation, sign in tier
            for hit in re.finditer(pattern, text)
        )
        if said:
            break
    else:
        said = [(0, 0, "", 0)]
    start, end, operation, sign = said[-1 if tier is ADJECTIVES else 0]
    if not operation:
        raise NoCandidate(f"no colour change is named in {instruction!r}.")
    if tier in (COLORS, PALETTE):
        start = end  # the word of how much is among those found
    if tier is not VERBS:
        sign *= _way(text, start, end, beside=tier in (COMPARATIVES, ADJECTIVES))
    if operation in OPPOSITE:  # of these, less of one is more of the other
        return (OPPOSITE[operation] if sign < 0 else operation), 0
    return operation, sign


def _way(text: str, start: int, end: int, beside: bool) -> int:
    """1 for more, -1 for less of what text[start:end] names; beside: only words closely before it count."""
    breaks = [hit.span() for hit in CLAUSE.finditer(text)]
    low = max((stop for _, stop in breaks if stop <= start), default=0)
    high = min((first for first, _ in breaks if first >= end), default=len(text))
    before, size = (
        [hit for hit in words.finditer(text, low) if hit.end() <= start] for words in (TURN, SIZE)
    )
    if beside:
        # "reduce the noise and make it bright": less noise, not less bright.
        far = before and re.search(
            r"\b(?:and|make|turn|look)\b|(?:\w+\W+){5}", text[before[-1].end() : start]
        )
        hits = [] if far else before[-1:]
    else:
        hits = [
            *before[-1:],
            *TURN.finditer(text, end, high),
            *size[-1:],
            *SIZE.finditer(text, end, high),
            *TURN.finditer(text, end),  # "the contrast is bad, lower it"
        ]
    return -1 if hits and hits[0]["less"] else 1


def adjust(picture: Tensor, operation: str, sign: int, draw: Draw) -> Tensor:
    """[H,W,3] in 0..1 after one operation of a drawn strength."""
    grey = (picture * picture.new_tensor(GREY)).sum(-1, keepdim=True)
    if operation == "brightness":
        gamma = draw.uniform("strength", 1.4, 2.2)
        out = 1 - (1 - picture) ** gamma if sign > 0 else picture * (1 / gamma)
    elif operation == "contrast":
        gain = draw.uniform("strength", 1.4, 2.0)
        out = picture.mean() + (gain if sign > 0 else 1 / gain) * (picture - picture.mean())
    elif operation == "saturation":
        gain = draw.uniform("strength", 1.5, 2.5)
        out = grey + (gain if sign > 0 else 1 / gain) * (picture - grey)
    elif operation == "warmth":
        tilt = draw.uniform("strength", 0.08, 0.25)
        out = picture * picture.new_tensor((1 + sign * tilt, 1.0, 1 - sign * tilt))
    elif operation == "hue":
        out = turned(picture, draw.uniform("strength", 0.15, 0.85))
    elif operation == "grey":
        out = grey.expand_as(picture)
    elif operation == "sepia":
        out = grey * picture.new_tensor((1.02, 0.82, 0.58)) + picture.new_tensor((0.06, 0.04, 0.02))
    elif operation == "invert":
        out = 1 - picture
    else:
        out = _focus(picture, operation, draw)
    return out.clamp(0, 1)


def _focus(picture: Tensor, operation: str, draw: Draw) -> Tensor:
    """Blurred by a Gaussian, by a lens's disc, or sharpened; lengths in parts of the shorter side."""
    side = min(picture.shape[:2])
    planes = picture.movedim(-1, 0)
    if operation == "blur":
        out = gaussian_low_pass(planes, max(1.0, draw.uniform("strength", 0.008, 0.024) * side))
    elif operation == "defocus":
        out = lens(planes, max(1.0, draw.uniform("strength", 0.012, 0.03) * side))
    else:
        soft = gaussian_low_pass(planes, max(0.5, 0.008 * side))
        out = planes + draw.uniform("strength", 1.0, 2.5) * (planes - soft)
    return out.movedim(0, -1).contiguous()


def lens(planes: Tensor, radius: float) -> Tensor:
    """[C,H,W] averaged over a disc of `radius` pixels, the border repeated: a lens out of focus."""
    reach = math.ceil(radius)
    offsets = torch.arange(-reach, reach + 1, dtype=planes.dtype)
    disc = ((offsets[:, None] ** 2 + offsets[None] ** 2) <= radius * radius).to(planes.dtype)
    kernel = (disc / disc.sum())[None, None]
    padded = F.pad(planes[:, None], (reach,) * 4, mode="replicate")
    return F.conv2d(padded, kernel.to(planes.device))[:, 0]


def turned(picture: Tensor, share: float) -> Tensor:
    """[H,W,3] with every hue turned by `share` of a full circle, around the grey axis (YIQ)."""
    angle = 2 * math.pi * share
    to_yiq = torch.tensor(
        [GREY, (0.595716, -0.274453, -0.321263), (0.211456, -0.522591, 0.311135)], dtype=torch.float64
    )
    cos, sin = math.cos(angle), math.sin(angle)
    turn = torch.tensor([[1, 0, 0], [0, cos, -sin], [0, sin, cos]], dtype=torch.float64)
    matrix = (torch.linalg.inv(to_yiq) @ turn @ to_yiq).to(picture)
    return picture @ matrix.T
