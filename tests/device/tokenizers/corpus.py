"""Lines that tokenizers stumble over, made anew from a seed: the same lines everywhere."""

from __future__ import annotations

import random
from functools import lru_cache

#: Words of many scripts, and what people write between them.
_TEXT = """
the quick brown fox doesn't we'll they've I'd said that's naïve café Zürich coöperate
fiancée Ångström straße İstanbul ΣΊΣΥΦΟΣ Ελλάδα привет мир Україна Հայաստան שלום עליכם
العربية السلام ﷺ لا ﻻ ﷲ فارسی اردو नमस्ते दुनिया क्षत्रिय বাংলা ਪੰਜਾਬੀ ગુજરાતી தமிழ் తెలుగు
ಕನ್ನಡ മലയാളം සිංහල ภาษาไทย น้ำ ລາວ བོད་ཡིག မြန်မာ ქართული አማርኛ ខ្មែរ 한국어 텍스트 가각 각
한글 東京タワー ひらがな カタカナ ｶﾞｷﾞ 漢字かな交じり文 中文分词 ２０２４年
Ｆｕｌｌｗｉｄｔｈ ㍿ ㈱ ① Ⅷ ½ x² H₂O ﬁne ﬂow ǅ ẞ ŀ ŉ ª º µm Ω Å ℃ ℡ ™ © ® 3.14159 1,000,000
٣٤٥ १२३ 0x1F 1e-5 10% $5 €20 £7 a.b.c e.g. U.S.A. foo_bar camelCase HTTPServer kebab-case
C++ C# F# node.js http://example.org/a?b=c&d=%20 me@example.org @user #tag <div
class="x">&amp;nbsp;</div> <br/> <!-- c --> {"key": [1, 2.5, null]} def f(x): return x**2
if(a&&b){c++;} \\n \\t C:\\Users\\x /usr/local/lib ~/.bashrc $HOME `code` ``quoted'' '' '''
"" “curly” ‘single’ «guillemets» „low“ — – … ‐ ‑ :-) ;-P <3 ¯\\_(ツ)_/¯ 👍🏽 👩‍👩‍👧‍👦
🇩🇪🇫🇷 🏴󠁧󠁢󠁥󠁮󠁧󠁿 ☃️ ❤️‍🔥 #️⃣ 🫠 𝒳𝓎 𝟘𝟙 𐍈 𓀀 𠀀 <s> </s> <mask> <unk> [MASK] [CLS] [SEP] <0x41> ▁
▁▁x ##ing unbelievable antidisestablishmentarianism Donaudampfschifffahrtsgesellschaft
llanfairpwllgwyngyll newtok newtoken
"""
WORDS = tuple(_TEXT.split())
SPACES = (
    " ",
    " ",
    " ",
    " ",
    " ",
    "  ",
    "   ",
    "\t",
    "\n",
    "\r\n",
    "\u00a0",
    "\u3000",
    "\u2003",
    "\u2028",
    "\u200b",
    "",
)
MARKS = (
    "\u0300\u0301\u0302\u0308\u030a\u0323\u0327\u0328\u0345\u0344\u05b8\u064b\u0670\u093c\u094d\u0e38\u0e49\u302e"
    "\u3099\u309a\u20d0"
)
#: Code points that some rule of some normalizer is about.
ODD = (
    "\u0000\u0001\u0007\u0008\u000b\u000c\u001c\u001f\u007f\u0080\u0085\u008f\u009f\u00ad\u034f\u061c\u070f\u180e"
    "\u200b\u200c\u200d\u200e\u200f\u202a\u202e\u2028\u2029\u2060\u2066\u2581\ufeff\ufffd\ufffc\ufe0f\ufe0e\ue000"
    "\uf8ff\ufdfa\ufdfb\ufb50\ufefb\u1100\u1161\u11a8\uac00\uac01\ud7a3\ua960\ud7b0\u0958\u09dc\u0b5c\u0f43\u0f77"
    "\u1e9b\u0323\u2126\u212a\u212b\u017f\u0130\u0131\u03c2\u1c89\ua7cb\u2c2f\u32ff\u3300\u33ff\u3131\uffa1\uff9e"
    "\u0600\u06dd\u110bd\u0d4e\u0903\u0e33\u0eb3\u0c03\u093f\u1b44\u08d4\u302f\u0483\u1dfb\u1abf"
    "\U0001d15e\U0001d165\U0001d16d\U0001f1e6\U0001f1e8\U0001f468\U0001f3fb\U000e0041\U00011938\U00010570\U0001e030"
    "\U0001fbf0\U0002f800\U0002b740\U0002b921\U00010ffff\U000f0000\U0010ffff\U00016ff4\U00011de0"
)
LINES = 5000


@lru_cache(maxsize=1)
def hard_lines() -> tuple[str, ...]:
    """The lines: some of words, some of code points, some of both, some much too long."""
    chance = random.Random(20240229)
    return tuple(_line(chance) for _ in range(LINES))


def _line(chance: random.Random) -> str:
    kind = chance.random()
    if kind < 0.62:
        return _words(chance, chance.randint(1, 12))
    if kind < 0.80:
        return "".join(_odd_word(chance) + chance.choice(SPACES) for _ in range(chance.randint(1, 6)))
    if kind < 0.90:
        return "".join(_any_character(chance) for _ in range(chance.randint(1, 24)))
    if kind < 0.96:
        return chance.choice(SPACES) + _words(chance, 3) + chance.choice(SPACES) * chance.randint(1, 4)
    if kind < 0.98:
        return chance.choice((*WORDS, *"ax.")) * chance.randint(30, 120)
    return chance.choice(("", " ", "\n", "\u3000", "  ", "\t\t", "▁", "\u200b", "\u0301", "\u0000", "."))


def _words(chance: random.Random, count: int) -> str:
    pieces: list[str] = []
    for _ in range(count):
        word = chance.choice(WORDS)
        change = chance.random()
        if change < 0.08:
            word = word.upper()
        elif change < 0.14:
            at = chance.randint(0, len(word))
            word = word[:at] + chance.choice(MARKS) * chance.randint(1, 3) + word[at:]
        elif change < 0.20:
            word += chance.choice(".,;:!?)\"'…。、！？")
        pieces += (word, chance.choice(SPACES))
    return "".join(pieces)


def _odd_word(chance: random.Random) -> str:
    return "".join(
        chance.choice(
            (chance.choice(ODD), chance.choice(MARKS), chance.choice("aeoxAKs1. "), chance.choice(WORDS))
        )
        for _ in range(chance.randint(1, 6))
    )


def _any_character(chance: random.Random) -> str:
    top = chance.choice((0x7F, 0x24F, 0x3100, 0xD7FF, 0x2FFFF))
    code = chance.randint(0, top)
    return " " if 0xD800 <= code < 0xE000 else chr(code)
