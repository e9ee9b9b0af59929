"""How people ask for a change, as patterns that say which words name the thing meant.

A pattern has up to three slots: {obj} is a thing in the picture, {new} one that is to come into it, {place}
where. The first pattern that fits the whole clause wins, so the narrow ones stand first. English only.
"""

from __future__ import annotations

import re
from functools import cache

PICTURE = r"(?:picture|pic|image|photo|photograph|scene|shot|view|frame)"
_SHOWN = rf"(?: (?:in|on|of|from|out of) (?:the|this|my) (?:whole |entire )?{PICTURE})?"
_A = r"(?:an?|some|another|one|two|three|four|five|several|many|more|lots of|a few)"
# Longest first: the first that fits is taken.
_PREP = (
    r"(?:in front of|on top of|at the top of|at the bottom of|in the middle of|next to|close to|"
    r"(?:to|on) the (?:left|right)(?: side)? of|left of|right of|above|below|underneath|under|beneath|beside|"
    r"behind|near|around|between|inside|against|onto|into|over|on|in|at|to|by|"
    r"(?:coming )?(?:out of|from))"
)
_ERASE = (
    r"(?:remove|erase|delete|get rid of|take (?:away|off|out)|clear away|hide|eliminate|wipe out|cut out|"
    r"crop out|photoshop out|edit out|leave out|strip (?:away|off|out)|rub out|paint over|lose|drop|discard|"
    r"throw (?:away|out))"
)
_ADD = r"(?:add|put|insert|place|include|attach|hang|stick|write|print)"
_ADD_A = (
    r"(?:draw|paint|set|create|show|plant|park|build|generate|give me|let there be|"
    r"there (?:should|could|must) be|i want|i would like|i'd like|have|imagine|make)"
)
_BECOME = r"(?:change|turn|transform|convert|make|morph|switch|alter|modify|set|repaint|recolou?r|redo|edit)"
_ASPECT = (
    r"(?:colou?rs?|texture|size|shape|pattern|material|surface|style|look|brightness|appearance|finish|"
    r"expression|pose|height|width)"
)
_MARK = r"(?:bounding box|box|rectangle|frame|circle|mask|outline|border)"
_POINT = (
    r"(?:detect|find|locate|spot|frame|point (?:out|at|to)|segment|highlight|mask(?: out| off)?|mark|select|"
    r"isolate|trace|outline|crop to|zoom in on|focus on|identify|extract|cut around|pick out|"
    r"indicate|search for|look for|i am looking for|i'm looking for)"
)
_ACT = (
    r"(?:enlarge|shrink|grow|scale(?: up| down)?|move|shift|rotate|flip|mirror|tilt|lift|raise|lower|blur|"
    r"sharpen|brighten|darken|lighten|open|close|light up|switch (?:on|off)|turn (?:on|off|around|down|up)|"
    r"stretch|bend|fix|repair|clean|polish|restore|straighten|extend|duplicate|copy|decorate|redraw|restyle|"
    r"retouch|smooth|age|melt|freeze|burn|break|fold|shorten|lengthen|trim|undress|recolou?r|repaint|edit|"
    r"blow up|modify|change|improve|style|colou?rize|replace|swap|switch|exchange)"
)
_PATTERN = r"(?:patterns?|textures?|stripes|dots|spots|checks|zigzags|prints?|colou?rs?)"
_GRADE = (
    r"(?:bigger|smaller|larger|taller|shorter|wider|narrower|longer|thinner|thicker|brighter|darker|lighter|"
    r"newer|older|younger|tinier|bolder|softer|rounder|flatter|cleaner|prettier)"
)
_THE = r"(?:the|this|that|my|his|her|their|its)"
# In two halves that are one order.
TOGETHER = re.compile(r"(?:swap|switch|take) (?:out )?(?!.* and .* and ).+ and (?:put|place) in .+")

# (what kind of order it is, its pattern). "result": behind the thing stands, unmarked, what becomes of it.
_RULES: tuple[tuple[str, str], ...] = (
    (
        "point",
        rf"(?:put|draw|place|add|show|make) an? (?:\w+ )?(?:{_MARK} (?:around|round)|mask (?:over|"
        rf"on)) {{obj}}",
    ),
    (
        "point",
        r"(?:create|make|show|give me|draw|generate|i want) (?:me )?(?:an?|the) (?:\w+ )?"
        r"(?:mask|shape|outline|silhouette|position|location|bounding box) (?:of|for) {obj}",
    ),
    (
        "point",
        rf"(?:{_POINT}|show|find|get|produce) (?:me )?(?:an?|the) (?:mask|pixels|area|region) of {{obj}}",
    ),
    ("point", rf"(?:{_POINT}|show) where {{obj}} (?:is|are)(?: with an? {_MARK})?"),
    ("point", rf"(?:an? |the )?{_MARK} (?:around|round) {{obj}}"),
    ("point", rf"(?:{_POINT}|show|surround) {{obj}} with (?:an?|the) (?:\w+ )?{_MARK}"),
    ("point", rf"(?:box|circle|label) (?P<obj>{_THE} .+?)(?: with an? {_MARK})?"),
    ("point", r"see {obj}"),
    ("point", r"show which pixels are {obj}"),
    ("point", r"(?:overlay|lay|put) a mask (?:on|over) {obj}"),
    ("point", r"find me {obj}"),
    ("point", r"where (?:is|are) {obj}"),
    ("point", r"(?:show|tell) me (?:where )?{obj}(?: (?:is|are))?"),
    ("point", r"(?:separate|cut|isolate) {obj} from .+"),
    (
        "point",
        rf"(?:cover|fill(?: in)?|mark|outline|paint|highlight) {{obj}} with (?:an?|the) {_MARK}(?: \w+)?",
    ),
    (
        "point",
        r"(?:mark|highlight|select|trace|show) (?:all )?(?:the )?(?:pixels|shape|outline|edges) of {obj}",
    ),
    ("point", r"(?:mark|highlight|select|show|mask) all of {obj}"),
    ("swap", r"substitute {new} for {obj}"),
    ("swap", r"(?:swap|switch|take) (?:out )?{obj} and (?:put|place) in {new}"),
    ("swap", r"(?:replace|swap|exchange|switch|substitute|trade)(?: out)? {obj} (?:with|by|for) {new}"),
    ("swap", r"(?:let|make|have) {new} take the place of {obj}"),
    ("swap", rf"(?:make|build|form) (?P<new>an? .+?) (?:out of|from) (?P<obj>{_THE} .+)"),
    ("swap", rf"(?P<obj>{_THE} .+?) (?:(?:turns|changes|transforms|morphs) into|becomes) {{new}}"),
    ("swap", r"(?:[\w' ]+? )?(?P<new>(?:an?|the|some) .+?) (?:instead of|in place of) {obj}"),
    ("swap", r"instead of {obj} (?:[\w' ]+? )?(?P<new>(?:an?|the|some) .+)"),
    ("swap", r"(?P<new>an? .+?) where {obj} (?:is|was|are|were|stands|sits)"),
    ("swap", r"put {new} where {obj} (?:is|was|are|were|stands|sits)"),
    ("take", rf"(?:{_ERASE}|take|clear) (?:the |all )?{_PATTERN} (?:from|off|out of|on|of) {{obj}}"),
    ("take", r"take {obj} (?:away|off|out)(?: (?:of|from) {place})?"),
    ("take", r"(?:get|move) {obj} out(?: of {place})?"),
    ("take", r"(?:make|let) {obj} (?:disappear|vanish|go away|go|invisible)"),
    ("take", rf"{_ERASE} {{obj}} (?:from|off|out of) {{place}}"),
    (
        "rest",
        rf"(?:{_ERASE}|blur|darken|change|take) (?:everything|all)(?: else)? (?:except|but)(?: for)? {{obj}}",
    ),
    ("take", rf"(?:{_ERASE}|take) {{obj}}"),
    ("take", rf"no (?:more )?{_PATTERN} on {{obj}}"),
    ("take", rf"(?P<obj>{_THE} .+?) without (?:an? |any |the )?{_PATTERN}"),
    ("take", r"(?:there (?:should|must) be )?no (?:more )?{obj}"),
    ("take", r"(?:i )?(?:do not|don't|dont) want (?:to see )?{obj}"),
    ("take", rf"(?:(?:make|show|give me) )?(?:(?:the|this|a) {PICTURE} )?without {{obj}}"),
    ("take", r"{obj} (?:should|must|has to|have to) (?:be gone|go|go away|disappear|vanish|be removed)"),
    ("change", rf"(?:{_ADD}|{_ADD_A}|apply) (?P<new>(?:an? )?(?:\w+ ){{0,2}}{_PATTERN}) {_PREP} {{obj}}"),
    ("change", r"give {obj} an? (?:\w+ ){{0,2}}(?:texture|colou?r|look|finish|pattern|style|print)"),
    ("change", rf"give {{obj}} (?:polka )?{_PATTERN}"),
    ("change", rf"give (?P<obj>(?:the|its|his|her|their|my) .+?) (?:\w+ )?{_PATTERN}"),
    ("change", rf"{_BECOME} the {_ASPECT} of {{obj}} (?:to|into) .+"),
    ("result", rf"{_BECOME} the {_ASPECT} of {{obj}}"),
    ("change", rf"(?:increase|decrease|reduce|raise|lower|adjust) the {_ASPECT} of {{obj}}"),
    ("change", rf"{_BECOME} {{obj}} {_ASPECT} (?:to )?.+"),
    ("change", rf"{_BECOME} {{obj}} (?:so that|to be|to look|to have) .+"),
    ("change", rf"{_BECOME} {{obj}} (?:out of|look|looks|appear|seem|be|smile|glow) ?.*"),
    ("add", r"(?:make|let|have) {obj} (?:wear|hold|carry|have|ride|eat|drink|hug) {new}"),
    ("swap", rf"{_BECOME} {{obj}} (?:into|to) {{new}}"),
    (
        "change",
        r"(?:wrap|cover|fill|coat|paint|repaint|colou?r|recolou?r|dye|decorate|dress|clothe|"
        r"surround) (?P<obj>(?!an? ).+?) (?:with|in) .+",
    ),
    ("change", r"(?:build|make) {obj} (?:out of|of|from) .+"),
    ("add", r"give (?P<obj>him|her|them|it) {new}"),
    ("add", rf"give {{obj}} (?P<new>{_A} .+)"),
    ("add", r"give (?P<obj>(?:the|this|that|my|his|her) \w+) {new}"),
    ("change", rf"(?:i want|i would like|i'd like|give me|make) an? (?:much )?{_GRADE} {{obj}}"),
    ("add", r"{obj} (?:should|must|could|needs to|has to) (?:wear|hold|carry|get|have) {new}"),
    ("add", rf"{_PREP} {{obj}} (?:{_ADD}|{_ADD_A}) (?P<new>{_A} .+)"),
    ("add", rf"{_ADD} {_PREP} (?P<obj>.+)"),
    (
        "move",
        rf"(?:put|place|hang|set|move) (?P<obj>(?:the|this|that|his|her|their|my) .+?) {_PREP} {{place}}",
    ),
    ("add", rf"(?:{_ADD}|{_ADD_A}) (?P<new>{_A} .+?) {_PREP} (?P<obj>.+)"),
    ("add", rf"{_ADD} {{new}} {_PREP} (?P<obj>.+)"),
    ("add", rf"(?:{_ADD}|{_ADD_A}) (?P<new>{_A} .+)"),
    ("add", rf"{_ADD} {{new}}"),
    ("point", rf"{_POINT} {{obj}}"),
    ("change", r"have {obj} (?:painted|dyed|coloured|colored|built|made|turned|changed|covered) .+"),
    (
        "change",
        rf"(?P<obj>{_THE} (?:(?!(?:who|that|which|where|there)\b)[\w']+ )+?)(?:is|are) (?:too |now )?[\w ]+",
    ),
    ("change", r"(?:let|have) {obj} (?:be|become|look|show|say|read) .+"),
    ("change", r"(?:i want|i would like|i'd like) {obj} (?:to be|to look|to become|in|as) .+"),
    ("change", r"{obj} (?:should|must|could|needs to|has to|ought to) .+"),
    ("change", r"(?:can|could|may) {obj} (?:be|become|look) .+"),
    ("change", rf"{_ACT} {{obj}}(?: (?:to|into|by|up|down|towards?|upside|until|so that) .*)?"),
    ("result", r"(?:make|turn|paint|colou?r|dye|tint|keep|leave|let) {obj}"),
    ("result", r"(?:i want|i would like|i'd like) {obj}"),
)


def _compiled(pattern: str) -> re.Pattern[str]:
    for slot in ("obj", "new", "place"):
        pattern = pattern.replace(f"{{{slot}}}", f"(?P<{slot}>.+?)")
    return re.compile(f"(?:{pattern}){_SHOWN}".replace("{{", "{").replace("}}", "}"))


@cache
def _rules() -> tuple[tuple[str, re.Pattern[str]], ...]:
    """Compiled when first asked for, which takes a while."""
    return tuple((kind, _compiled(pattern)) for kind, pattern in _RULES)


# Words an order starts with; before them "and" or a comma starts a second order.
VERBS = re.compile(
    rf"(?:{_ERASE}|{_ADD}|{_ADD_A}|{_BECOME}|{_POINT}|{_ACT}|give|take|cover|wrap|dye|tint|colou?r|let|keep)\b"
)


def ordered(clause: str) -> tuple[str, dict[str, str]]:
    """(kind, the words in each slot) of an order; kind "" if no pattern fits: a bare phrase, perhaps."""
    for kind, pattern in _rules():
        if hit := pattern.fullmatch(clause):
            return kind, {slot: words for slot, words in hit.groupdict().items() if words}
    return "", {}
