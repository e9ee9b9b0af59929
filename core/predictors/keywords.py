"""Which of the sixteen tasks an instruction asks for, by a keyword rule.

The predictor of last resort, for a copy of the pack without weights: it looks for English wordings, the
narrow ones first, then goes by the verb and by whether the order is about one thing or the whole picture. It
is deterministic, instant, and says which words it went by. It is wrong where an instruction is indirect or
unusual.
"""

from __future__ import annotations

import re

from .base import TaskGuess, empty

NO_SIGN = "no sign of another task"


def _any(wordings: str) -> re.Pattern[str]:
    """Any of the comma-separated wordings (themselves patterns) as whole words."""
    options = "|".join(" ".join(wording.split()) for wording in wordings.split(","))
    return re.compile(rf"\b(?:{options})\b")


POLITE = re.compile(
    "^(?:please|now|then|also|just|(?:can|could|would) you|i (?:want|would like|need) you to|let us|lets) "
)

# Image-to-image translation, both directions.
MAPS = {
    "depth": _any(r"depth(?! of field), how far away"),
    "normal": _any(r"normal map, normals"),
    "pose": _any(r"""pose (?:map|skeleton|drawing|estimat\w+), body pose, skeleton (?:of|map), key ?points,
        openpose, stick figure, (?:estimate|detect|extract|show|predict) (?:the|his|her|their) pose"""),
    "segmentation": _any(r"""segmentation(?! mask (?:of|for) the), semantic map, label every pixel,
        classes of, segment (?:every|everything|all|the (?:whole |entire )?(?:image|picture|photo|scene)),
        by its class"""),
    "sketch": _any(r"""line (?:drawing|art), only the lines,
        (?:into|to|as|from|this|it|the) (?:an? )?(?:rough |simple )?sketch,
        (?:show|draw|trace|detect|extract|find|only) (?:\w+ )?(?:outlines|edges|contours)"""),
}
LETTERING = _any(r"""text, words?, letters, lettering, caption, slogan, font, watermark, headline, subtitles?,
    write, spell, (?:that|it|sign|to) says?, say, saying, reads?, ^print""")
QUOTED = re.compile(r"(?:^|\s)(['\"])[^'\"]+\1")
FIND = _any(r"""^detect, ^find, ^locate, ^spot, ^frame, where (?:is|are), me where, bounding box, point out,
    (?:box|rectangle|frame|circle) (?:around|round), with a (?:box|rectangle|frame), position of""")
MARK = _any(r"""^segment, ^highlight, ^mask, ^mark, ^isolate, ^select, ^trace, masks? (?:of|for|out|colou?r),
    with (?:a|the) mask, (?:all|the) pixels, silhouette, shape of, separate .* from, cutout""")
BACKGROUND = _any(r"""background, backdrop, surroundings, behind (?:everything|it all|him|her|them),
    (?<!in )the sky""")
# Moving everything elsewhere changes what is behind it.
ELSEWHERE = _any(r"""(?:put|place|set|move|take|transport)
    (?:it|him|her|them|us|me|everything|the scene|this) (?:all )?(?:in|on|at|to|into|onto|by|under),
    scene to, take place, change the (?:setting|location|scenery)""")
TAKE = _any(r"""remove, erase, delete, get rid of, eliminate, wipe out, clear away, hide, disappear, vanish,
    take .*(?:away|off|out), no (?:more )?(?:\w+ )?\w+$, no more, (?:do not|don't) want, without, cut out,
    crop out, should be gone, lose the""")
PUT = _any(r"""^(?:add|put|insert|place|include|attach|hang),
    ^(?:draw|create|set|show) (?:an?|some|two|three), add, there (?:should|could|must) be, let there be,
    another, an extra,
    give (?:him|her|them|it|me|the \w+) (?:an?|some)(?! new)(?!.* (?:colou?r|version|look)$),
    (?:paint|want) (?:an?|some|two|three)\b.* (?:in|on|at|to|into|above)""")
SWAP = _any(r"replace, swap, exchange, switch, substitute, instead of, in place of, ^put .* where")
STYLE = _any(r"""style, stylized?, water ?colou?r,
    (?:oil|acrylic|impressionist|renaissance|abstract) painting, oil on canvas,
    (?:pencil|charcoal|ink|pastel|crayon|chalk) (?:sketch|drawing), cartoon(?:ish)?, comic, anime, manga,
    pixar, 8 ?bit, pixel art, mosaic, stained glass, impressioni\w*, cubis\w*, surreal\w*, pop art, art deco,
    art nouveau, van gogh, monet, picasso, ukiyo e, low poly, claymation, 3d render\w*, cyberpunk, steampunk,
    vaporwave, pointilli\w*, linocut, woodcut, origami, caricature,
    (?:into|like|as) an? (?:painting|drawing|illustration|poster|engraving)""")
LOOK = _any(r"""bright(?:er|en|ness)?, dark(?:er|en), light(?:er|en), contrast, (?:de)?saturat\w*, hue,
    exposure, gr[ae]yscale, black and white, sepia, monochrome, colou?rful, vivid, vibrant, faded, muted,
    blur(?:ry|red)?, out of focus, defocus(?:ed)?, sharp(?:er|en|ness)?, crisp(?:er)?, warm(?:er)?,
    cool(?:er)?, colder, tint(?:ed)?, gamma, white balance, temperature, invert(?:ed)?, negative,
    old fashioned, vintage, retro, vignette, colou?rs?, flatter""")
WEATHER = _any(r"""winter, wintry, summer, spring, autumn, fall(?: colou?rs)?$, season,
    snow(?:y(?! mountain)|ing|fall)?, rain(?:y|ing)?, storm(?:y)?, fog(?:gy)?, mist(?:y)?, haz[ey], sunny,
    sunset, sunrise, overcast, cloudy, clear$, (?:clear|normal) day, dawn, dusk, twilight, night ?(?:time)?,
    midnight, noon, day ?(?:time|light), evening, morning, weather, golden hour, time of (?:day|year),
    dark outside, (?:autumn|falling) leaves, christmas, halloween, mood, atmosphere, underwater, spooky,
    romantic, gloomy, dramatic""")
DARK = _any(r"dark outside")  # the hour, where "darker" is the light
PATTERN = _any(r"""textures?, patterns?, patterned, stripes?, striped, stripy, polka ?dots?, dotted, dots,
    spotted, spots, checkered, checks, plaid, tartan, zigzags?, camouflage, floral, (?:leopard|zebra) print,
    one colou?r, plain""")
MATERIAL = _any(r"""wood(?:en)?, bricks?, stone, marble, metal(?:lic)?, chrome, steel, copper, glass, crystal,
    ice, leather, denim, fur(?:ry)?, fabric, velvet, knitted, wool(?:en)?, rust(?:y)?, concrete, plastic,
    rubber, clay, ceramic, cardboard, moss(?:y)?, lego""")
# One thing in the picture, told from the picture itself: "the ball", but not "the whole picture".
THING = re.compile(
    r"\b(?:the|his|her|their|its|my|your|these|those|both|all|every|each) (?:(?:whole|entire|overall) )?"
    r"(?!(?:whole|entire|overall|picture|image|photo|photograph|shot|scene|view|colou?rs?|tones?|lighting"
    r"|light|exposure|brightness|contrast|saturation|hue|mood|weather|season|time|atmosphere|style|left|right|top"
    r"|bottom|middle|center|centre|air|day|night|morning|evening|winter|summer|autumn|spring|fall|rain|snow"
    r"|fog|mist|dark|storm)\b)\w+"
)

# What taking away or putting in is about, when it is no object.
PATTERN_OFF = _any(r"""(?:pattern|texture|stripes|dots|spots|checks) (?:from|off|on|of),
    no (?:pattern|texture)""")
LOOK_OFF = _any(r"colou?rs? (?:from|out|of), colou?rs?$, blur, tint, vignette")
WEATHER_OFF = _any(r"fog, mist, haze, rain, snow, clouds?$")
STYLE_ON = _any(r"style, (?:cartoon|comic|mosaic|watercolor|painting|sketch|glass) filter")
PATTERN_ON = _any(r"""(?:patterns?|textures?|stripes|dots|spots|checks|zigzags) (?:to|on|onto),
    (?:pattern|texture|print|finish)$""")
LOOK_ON = _any(r"""contrast, brightness, saturation, warmth, blur, sharpness, vignette, colou?rs?$,
    (?:filter|tint|tone|effect) (?:to|over|on), (?:filter|tint|tone)$""")
WEATHER_ON = _any(r"""(?:add|put|be)(?: a| some| a lot of| more| falling| autumn| heavy| light| thick)*
    (?:snow|rain|fog|mist|haze|leaves|clouds|lightning|snowfall|sunshine)""")


def by_keywords(instruction: str) -> TaskGuess:
    """The task and the words it went by. Raises EmuEditError for an empty instruction."""
    text = _normalised(instruction)
    if not text:
        raise empty()
    narrow = (*MAPS.items(), ("text", LETTERING), ("text", QUOTED), ("detect", FIND), ("segment", MARK))
    if guess := _first(text, *narrow):
        return guess
    if BACKGROUND.search(text) and not re.match("(?:add|insert|draw|include|there should be) ", text):
        return TaskGuess("background", "the background is named")
    if not WEATHER.search(text) and (guess := _first(text, ("background", ELSEWHERE))):
        return guess
    return _by_verb(text) or _by_subject(text)


def _normalised(instruction: str) -> str:
    """Lower case, single spaces, straight quotes kept, other punctuation and polite words gone."""
    text = instruction.lower()
    for curly, straight in (("\u201c", '"'), ("\u201d", '"'), ("\u2018", "'"), ("\u2019", "'")):
        text = text.replace(curly, straight)
    text = " ".join(re.sub(r"[^\w'\" ]+", " ", text).split()).removesuffix(" please")
    while (shorter := POLITE.sub("", text)) != text:
        text = shorter
    return text


def _first(text: str, *choices: tuple[str, re.Pattern[str]]) -> TaskGuess | None:
    """The first task whose pattern is in the text."""
    for task, pattern in choices:
        if hit := pattern.search(text):
            return TaskGuess(task, f"the words {hit.group().strip()!r}")
    return None


def _by_verb(text: str) -> TaskGuess | None:
    """Orders to put one thing for another, to take something away, or to put something in."""
    swap = SWAP.search(text) and (THING.search(text) or not WEATHER.search(text))
    if swap:
        return _first(text, ("texture", _any("texture, pattern")), ("local", SWAP))
    return _take(text) if TAKE.search(text) else _put(text) if PUT.search(text) else None


def _take(text: str) -> TaskGuess | None:
    choices = ("texture", PATTERN_OFF), ("color", LOOK_OFF), ("global", WEATHER_OFF), ("remove", TAKE)
    return _first(text, *choices)


def _put(text: str) -> TaskGuess | None:
    choices = ("style", STYLE_ON), ("texture", PATTERN_ON), ("color", LOOK_ON), ("global", WEATHER_ON)
    return _first(text, *choices, ("add", PUT))


def _by_subject(text: str) -> TaskGuess:
    """Other orders: of one thing its surface or the thing itself, of the whole its style, light or hour."""
    style = ("style", STYLE)
    if THING.search(text):
        guess = _first(text, style, ("texture", PATTERN), ("texture", MATERIAL))
        return guess or TaskGuess("local", f"about one thing, with {NO_SIGN}")
    whole = _first(text, style, ("global", DARK), ("color", LOOK), ("global", WEATHER), ("texture", PATTERN))
    return whole or TaskGuess("local", NO_SIGN)
