"""Unicode character classes as the Hugging Face tokenizers know them.

Python's ``unicodedata`` follows the Unicode version of the interpreter (13 in Python 3.9, 15.1 in 3.13), and
the ``tokenizers`` library follows its own. A text must give the same ids on every device, so the classes are
frozen here, as that library has them (version 0.23), and a test compares every code point with it.

A table is a list of ranges: ``gap.length`` in base 36, where ``gap`` counts the code points since the end of
the range before and ``length`` those after the first (absent: one code point).
"""

from __future__ import annotations

from bisect import bisect_right
from typing import List, Sequence, Tuple


class CharacterClass:
    """A set of code points as sorted ranges."""

    def __init__(self, table: str) -> None:
        self._starts: List[int] = []
        self._ends: List[int] = []
        at = 0
        for item in table.split():
            gap, _, length = item.partition(".")
            start = at + int(gap, 36)
            end = start + (int(length, 36) if length else 0)
            self._starts.append(start)
            self._ends.append(end)
            at = end + 1

    def __contains__(self, character: str) -> bool:
        code = ord(character)
        index = bisect_right(self._starts, code) - 1
        return index >= 0 and code <= self._ends[index]

    @property
    def ranges(self) -> Sequence[Tuple[int, int]]:
        """First and last code point of every range, ascending."""
        return list(zip(self._starts, self._ends))


#: Unicode White_Space, which is neither ``str.isspace`` (more) nor ASCII only (less).
WHITESPACE = frozenset(
    "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)

#: What BERT's normalizer drops: control, format and private characters, U+0000, U+FFFD.
REMOVED = CharacterClass(
    "0.8 2.1 1.h 2n.w d 11u.5 m 5c 1d 3cu 1ks.4 q.4 1d.4 1.9 11u8.4xr 16n 6x.2 1 3b3 xya.3 43z.7 h406 "
    "u.2n 1egw.1ekd 2.1ekd"
)

#: What BERT's normalizer drops after NFD when accents are stripped.
NONSPACING_MARKS = CharacterClass(
    "lc.33 7n.4 7d.18 1 1.1 1.1 1 20.a 1c.k g 2t.6 2.5 2.1 1.3 z u.q 2j.a 1m.8 y.3 1.8 1.2 1.4 17.2 3r.v "
    "1j 1 4.7 4 3.6 a.1 t 1m 4.3 8 k.1 t.1 1l 4.1 4.1 2.2 3 u.1 3 b.1 1l 4.4 1.1 4 k.1 t 1m 2 1.3 8 8 b.1 "
    "u 1p c 1e 1p.2 5.2 1.3 7.1 b.1 t 1m 2 6 5.1 k.1 t 1r.3 8 k.1 2u 7.2 1 2i 2.6 c.7 2q 2.5 1.1 b.5 22.1 "
    "r 1 1 1j.d 1.4 1.1 5.a 1.z 9 2u.3 1.5 1.1 2.1 p.1 4.2 g.3 d 2.1 6 f jj.2 qa.2 t.2 t.1 u.1 1s.1 1.6 8 "
    "2.a 9 19.2 4b 3a.2 4.1 9 6.2 63.1 2 1m 1.6 1 1 2.7 6.9 2 1c.d 1u.3 1c 1.4 1 5 14.8 c.1 w.3 2.1 1.2 "
    "1k 1.1 3 1.2 1m.7 2.1 48.2 1.c 1.6 4 6 3.1 5i.1h 6.3 k0.c 4 3.b 2da.2 3x 2o.v fe.3 2z.1 n9w 4.9 w.1 "
    "28.1 7k 3 4 p.1 4d r.h 1g.7 p.a 1a.2 1c 2.3 2 14 1v.5 2.1 2.1 c 8 1b 1f 1.2 2.1 5.1 1 16.1 8 6m 2 4 "
    "fn4 kh.f g.f r1 6a 45.4 1ae.2 1.1 5.3 14.2 4 4l.1 10a 1i.e 1k.2 1d.3 2.1 1x.2 10.4 1.7 1q c.1 1g.8 "
    "b.2 2q.2 2 1.1 4n 3.7 l.1 1m 3 11.6 3.4 8u.5 1 4.1 1.1 6m.3 6.1 1.1 r.1 2d.7 2 1.1 2y 1 2.5 1 2t.2 "
    "2.3 1.4 gjo.4 1n.6 uw.3 f7u.1 43s.2 h.7 2.6 u.3 44.2 1iz.1i 4.1d 8 e m.4 1.e 2sg.6 gzl5.6n"
)

#: What BERT's pre-tokenizer sets apart: ASCII symbols and category P.
PUNCTUATION = CharacterClass(
    "x.e a.6 q.5 q.3 y 5 3 a.1 3 3 ji 8 cy.5 15.1 1f 1 2 2 18.1 k.1 1.1 d 2.1 22.3 2u 17.d 6h.2 1i.e v "
    "79.1 a an lf 2i a.1 4o.e 1 11.3 1z 22.4 4.1 33.5 4r h0.8 47 h8.1 18.1 26.2 1z.1 4d.2 1.2 11.a 8p.1 "
    "60.1 3k.6 1.5 4s.6 4b.3 1n.4 1q.1 1s.7 b n0.n 8.j 1.c 1.b u.1 e.1 hl.3 t.1 u5.d 27.1 v.9 b7.l 1r.3 "
    "w.1 l7.3 1.1 34 3z.1a 1.i ce.2 4.9 2.b g c 2q 2i mwy.1 7h.2 2r a 37.5 ak.3 2e.1 14.2 1 1d.1 1b 2p.c "
    "g.1 3g.3 3i.1 g.1 6x g2a.1 5s.9 m.y 1.d 1 4 1.1 45.2 1.5 1.3 a.1 3.1 q.2 1 r 1 1.6 be.2 ik 1c bi kn "
    "5j v 7k.8 12 34.6 1u.6 2h.3 x6.6 31.1 1.3 3i.3 1c.1 27.4 3 d 1.2 2g.5 2z f0 6y.m 2x.2 6w.2 2lt.4 "
    "dtl.1 3p 1t.4 8 g2i 5wn.4"
)

#: Category L, for the byte-level pre-tokenizer.
LETTERS = CharacterClass(
    "1t.p 6.p 1b a 4 5.m 1.u 1.cp 4.b e.4 7 1 3l.4 1.1 2.3 1 6 1.2 1 1.j 1.2a 1.3u 8.4l 1.11 2 6.14 1z.q "
    "4.3 19.16 z.1 1.2q 1 f.1 7.1 a.2 2 g 1.t t.2g b o.w 9.1 4 5.l 4 9 3 n.o 7.a 5.n 1.5 h.15 1m.1h 3 i "
    "7.9 f.f 4.7 2.1 2.l 1.6 1 3.3 3 g d.1 1.2 e.1 a 8.5 4.1 2.l 1.6 1.1 1.1 1.1 v.3 1 j.2 g.8 1.2 1.l "
    "1.6 1.1 1.4 3 i f.1 n b.7 2.1 2.l 1.6 1.1 1.4 3 u.1 1.2 f h 1.5 3.2 1.3 3.1 1 1.1 3.1 3.2 3.b m 1g.7 "
    "1.2 1.m 1.f 3 q.2 2 2.1 u 4.7 1.2 1.m 1.9 1.4 3 v.1 1.1 f.1 h.8 1.2 1.14 2 g 5.2 8.2 o.5 5.h 3.n 1.8 "
    "1 2.6 1m.1b 1.1 c.6 1m.1 1 1.4 1.n 1 1.9 1.1 9 2.4 1 l.3 w 1r.7 1.z r.4 37.16 k g.5 4.3 3 3.1 7.2 "
    "4.c c h.11 1 5 2.16 1.98 1.3 2.6 1 1.3 2.14 1.3 2.w 1.3 2.6 1 1.3 2.e 1.1k 1.3 2.1u 11.f g.2d 2.5 "
    "3.h7 2.g 1.p 5.22 6.7 7.h d.i e.h e.c 1.2 f.1f z 4 1v.2g 7.4 2.x 1 5.1x a.u 1d.t 2.4 b.17 4.p 1i.m "
    "9.1g 2a 2l.1a h.7 1i.t d.1 a.17 q.z 15.2 a.z 2.a 5.16 2.2 15.3 1.5 1.1 3 5.5b 1s.7p 2.5 2.11 2.5 2.7 "
    "1 1 1 1.u 2.1g 1.6 1 3.2 1.6 3.3 2.5 4.c 5.2 1.6 38 d g.c 2t 4 2.9 1 3.4 6 1 1 1.3 1.a 2.3 5.4 4 "
    "1g.1 22j.6c 6.3 3.1 c.11 1 5 2.1j 7 g.m 9.6 1.6 1.6 1.6 1.6 1.6 1.6 1.6 28 d1.1 16.4 5.1 4.2d 6.2 "
    "1.2h 1.3 5.16 1.2l h.v 1c.f e8.533 1s.h3g 1v.19 2.7g 3.f a.1 k.1a g.u 2.1x 1d.8 2.2u 2.1u 2.1 1 1.7 "
    "l.f 1.2 1.3 1.m t.1f e.1d 1q.5 3 1.1 b.r a.m p.s 7.1a s g.4 1.9 a.4 1.14 n.2 1.7 k.m 3 3.1d 1 3.1 "
    "2.4 2 1 o.2 2.a 7.2 c.5 2.5 2.5 9.6 1.6 1.16 1.d 6.36 t.8mb c.m 4.1c 6is.a5 2.2x 12.6 c.4 5 1.9 1.c "
    "1.4 1 1.1 1.1 1.2z x.a2 i.1r 2.1h 14.b 38.4 1.3q 10.p 6.p b.2g 3.5 2.5 2.5 2.2 z.b 1.p 1.i 1.1 1.e "
    "2.d y.3e at.s 3.1c 1b.v d.j 1.7 6.11 a.t 2.z 4.7 1c.4d i.z 4.z 4.13 8.1f c.a 1.e 1.6 1.1 1.a 1.e 1.6 "
    "1.1 3.1f c.8m 9.l a.7 o.5 1.15 1.8 1x.5 2 1.17 1.1 3 2.m a.m 9.u 1t.i 1.1 a.l a.p 1y.1j 6.1 1s f.3 "
    "1.2 1.s 16.s 3.s z.7 1.r r.1h a.l a.i d.h 32.20 1j.1e d.1e d.z 12.r 9.m 6y.15 6.1 g.2 1n.s a 8.l "
    "16.h 1a.k r.m c.1g 1l.1 2 d.18 w.o q.z t 2 8.y 3 c.1b e.3 l 1 z.h 1.o j.1 1r.6 1 1.3 1.e 1.9 7.1a "
    "12.7 2.1 2.l 1.6 1.1 1.4 3 i c.4 u.9 1 2 1.11 1 p 1 18.1g i.3 k.2 u.1b k.1 1 54.1a 15.3 10.1b k "
    "1n.16 d 1z.q 11.6 55.17 38.1r v.7 2 2.7 1.1 1.n f 1 2m.7 2.12 g 1 s a.13 7 l b.19 j i.20 5j.w v.8 "
    "1.10 h 1d.t 34.6 1.1 1.11 l p.5 1.1 1.v e 93.i f 1.c 1.x 3g 27.pl 6e.5f 218.2o f.tr h.5 p.32y 5.g6 "
    "5a1.t 1cy.fs 7.u h.26 h.t i.1b g.3 v.k 5.i c0.18 5v.1r 3k.22 5 1u.c 1s.1 1 s.4qf 8.yd 15.9 6w7.3 1.6 "
    "1.1 1.82 f t.2 2 e.3 8.az 1s4.2y 5.c 3.8 7.9 4me.2c 1.1y 1.1 2 2.1 2.3 1.b 1 1.6 1.1s 1.3 2.7 1.6 "
    "1.r 1.3 1.4 1 3.6 1.9f 2.o 1.o 1.u 1.o 1.u 1.o 1.u 1.o 1.u 1.o 1.7 1f8.u 6.5 79.1p 42.18 a.6 g 8x.t "
    "i.17 dg.r 6c.t 2 dr.6 1.3 1.1 1.e 1.5g 1n.1v 7 xg.3 1.q 1.1 1 2 1.9 1.3 1 1 6 4 1 1 1.2 1.1 1 2 1 1 "
    "1 1 1.1 1 2.3 1.6 1.3 1.3 1 1.9 1.g 5.2 1.4 1.g 3es.wyn w.37d 6.65 2.4g1 e.5rk f.h9 1wi.f1 15u.3t6 "
    "5.38f"
)

#: Category N, for the byte-level pre-tokenizer.
NUMBERS = CharacterClass(
    "1c.9 3c.1 5 2.2 141.9 3q.9 5i.9 bg.9 3a.9 4.5 30.9 3a.9 3a.9 2.5 32.c 37.9 8.6 2v.9 2w.6 7.i 31.9 "
    "2o.9 3a.9 1y.j 7g.9 1y.9 jz.j oh.2 6n.9 6.9 m.9 8c.9 3k.a 4l.9 6.9 52.9 2e.9 3q.9 6.9 t2 3.5 6.9 "
    "5i.1e 2.4 k6.1n 26.l hi.t 12h ll p.8 e.2 9j.3 3u.9 u.7 1.e w.9 13.e msg.9 58.9 8w.5 4a.9 12.9 5i.9 "
    "m.9 2e.9 ba.9 geu.9 dp.18 c.1k h.1 9h.q 10.3 t 8 3q.4 5m.9 q6.7 p.6 13.8 23.4 m.5 4g.1 2.f 2.19 1s.8 "
    "1g.1 u.2 23.4 2w.7 o.7 15.6 96.5 1c.9 6.9 7q.u 4e.9 16.3 34.6 3q.t 3k.9 1o.9 40.9 7.j 6z.9 9i.9 3a.9 "
    "ae.9 2u.9 6.j 24.b bo.i 2l.9 ie.9 2e.s 6b.9 1y.9 bq.9 2u.k tn.32 c01.9 1t2.9 2e.9 3q.9 1.6 em.9 7a.m "
    "imx.9 152.j c.j 30.o ut.1d 1ts.9 bq.9 dy.9 6v.9 jw.8 3k.9 lz.1m 1.2 1.3 24.18 1.e qq.c 25f.9"
)

#: What the Digits pre-tokenizer calls a digit: category N of a newer Unicode than NUMBERS.
NUMERIC = CharacterClass(
    "1c.9 3c.1 5 2.2 141.9 3q.9 5i.9 bg.9 3a.9 4.5 30.9 3a.9 3a.9 2.5 32.c 37.9 8.6 2v.9 2w.6 7.i 31.9 "
    "2o.9 3a.9 1y.j 7g.9 1y.9 jz.j oh.2 6n.9 6.9 m.9 8c.9 3k.a 4l.9 6.9 52.9 2e.9 3q.9 6.9 t2 3.5 6.9 "
    "5i.1e 2.4 k6.1n 26.l hi.t 12h ll p.8 e.2 9j.3 3u.9 u.7 1.e w.9 13.e msg.9 58.9 8w.5 4a.9 12.9 5i.9 "
    "m.9 2e.9 ba.9 geu.9 dp.18 c.1k h.1 9h.q 10.3 t 8 3q.4 5m.9 q6.7 p.6 13.8 23.4 m.5 4g.1 2.f 2.19 1s.8 "
    "1g.1 u.2 23.4 2w.7 o.7 15.6 96.5 1c.9 6.9 7q.u 4e.9 16.3 34.6 3q.t 3k.9 1o.9 40.9 7.j 6z.9 9i.9 3a.9 "
    "ae.9 2u.9 6.j 24.b bo.i 2l.9 ie.9 2e.s 6b.9 1y.9 1i.9 9y.9 2u.k tn.32 c01.9 1t2.9 2e.9 3q.9 1.6 em.9 "
    "7a.m 9p.2 id5.9 152.j c.j 30.o ut.1d 1ts.9 bq.9 dy.9 6v.9 jw.8 3k.9 lz.1m 1.2 1.3 24.18 1.e qq.c "
    "25f.9"
)

#: ``\w``: what touches an added token that stands alone, and what the Whitespace pre-tokenizer keeps.
WORD = CharacterClass(
    "1c.9 7.p 4 1.p 1b a 4 5.m 1.u 1.cp 4.b e.4 7 1 h.38 1.1 2.3 1 6 1.2 1 1.j 1.2a 1.3u 1.4s 1.11 2 6.14 "
    "8.18 1 1.1 1.1 1 8.q 4.3 t.a 5.21 4.2t 1.7 2.9 1.i 2 g.1m 2.2s e.1h 4 2 2.19 i.r 4.a 5.n 1.5 8.22 "
    "1.3k 2.9 1.i 1.7 2.1 2.l 1.6 1 3.3 2.8 2.1 2.3 8 4.1 1.4 2.b a 1 2.2 1.5 4.1 2.l 1.6 1.1 1.1 1.1 2 "
    "1.4 4.1 2.2 3 7.3 1 7.f b.2 1.8 1.2 1.l 1.6 1.1 1.4 2.9 1.2 1.2 2 f.3 2.9 9.6 1.2 1.7 2.1 2.l 1.6 1.1 "
    "1.4 2.8 2.1 2.2 7.2 4.1 1.4 2.9 1 g.1 1.5 3.2 1.3 3.1 1 1.1 3.1 3.2 3.b 4.4 3.2 1.3 2 6 e.9 g.c 1.2 "
    "1.m 1.f 2.8 1.2 1.3 7.1 1.2 2 2.3 2.9 g.3 1.7 1.2 1.m 1.9 1.4 2.8 1.2 1.3 7.1 6.1 1.3 2.9 1.2 c.c 1.2 "
    "1.1e 1.2 1.4 5.3 7.4 2.9 a.5 1.2 1.h 3.n 1.8 1 2.6 3 4.5 1 1.7 6.9 2.1 d.1l 5.e 1.9 13.1 1 1.4 1.n 1 "
    "1.m 2.4 1 1.6 1.9 2.3 w n.1 6.9 b 1 1 4.9 1.z 4.j 1.h 1.z 9 1l.21 6.25 2.11 1 5 2.16 1.98 1.3 2.6 1 "
    "1.3 2.14 1.3 2.w 1.3 2.6 1 1.3 2.e 1.1k 1.3 2.1u 2.2 w.f g.2d 2.5 3.h7 2.g 1.p 5.22 3.a 7.l 9.l b.j "
    "c.c 1.2 1.1 c.2b 3 4.1 2.9 x.2 1.a 6.2g 7.16 5.1x a.u 1.b 4.b a.13 2.4 b.17 4.p 6.9 12.r 4.1q 1.s 2.a "
    "6.9 d 8.u 1d.24 3.9 h.8 c.37 c.1j 8.9 3.1c 2.a 5.16 2.2 g.2 1.12 5.et 2.5 2.11 2.5 2.7 1 1 1 1.u 2.1g "
    "1.6 1 3.2 1.6 3.3 2.5 4.c 5.2 1.6 f.1 1d.1 j s d g.c 1f.w h 4 2.9 1 3.4 6 1 1 1.3 1.a 2.3 5.4 4 h.14 "
    "ml.1f 1ee.6c 6.8 c.11 1 5 2.1j 7 f.n 9.6 1.6 1.6 1.6 1.6 1.6 1.6 1.6 1.v 1b d1.2 p.e 1.4 2.4 4.2d 2.1 "
    "2.2 1.2h 1.3 5.16 1.2l h.v 1c.f e8.533 1s.h3g 1v.19 2.7g 3.r k.1e 1.9 1.36 11.8 2.2u 2.1u 2.1 1 1.7 "
    "l.1h 4 j.1f c.1x a.9 6.n 3 1.1c 2.z c.s 3.1s e.a 6.u 1.1i 9.d 2.9 6.m 3.20 o.2 2.f 2.4 a.5 2.5 2.5 "
    "9.6 1.6 1.16 1.d 6.3e 1.1 2.9 6.8mb c.m 4.1c 6is.a5 2.2x 12.6 c.4 5.b 1.c 1.4 1 1.1 1.1 1.2z x.a2 "
    "i.1r 2.1h 14.b 4.f g.f 3.1 o.2 w.4 1.3q j.9 7.p 4 1.p b.2g 3.5 2.5 2.5 2.2 z.b 1.p 1.i 1.1 1.e 2.d "
    "y.3e 1x.1g 3s 3m.s 3.1c f v.v d.t 5.16 5.t 2.z 4.7 1.4 16.4d 2.9 6.z 4.z 4.13 8.1f c.a 1.e 1.6 1.1 "
    "1.a 1.e 1.6 1.1 3.1f c.8m 9.l a.7 o.5 1.15 1.8 1x.5 2 1.17 1.1 3 2.m a.m 9.u 1t.i 1.1 a.l a.p 1y.1j "
    "6.1 1s.3 1.1 5.7 1.2 1.s 2.2 4 w.s 3.s z.7 1.t p.1h a.l a.i d.h 32.20 1j.1e d.1e d.13 8.9 6.11 3.4 "
    "1.m 6y.15 1.1 3.1 g.2 1j.w a 8.w v.l 16.k r.m 9.1y v.f 9.1n 7 d.o 7.9 6.1g 1.9 4.3 8.z 2 9.1w 4.3 1.c "
    "1 z.h 1.10 6.3 1q.6 1 1.3 1.e 1.9 7.1m 5.9 6.3 1.7 2.1 2.l 1.6 1.1 1.4 1.9 2.1 2.2 2 6 5.6 2.6 3.4 "
    "b.9 1 2 1.11 1.9 1 2 1.3 1.7 d.1 t.22 5.9 4.3 u.1x 1 8.9 4m.1h 2.8 n.5 y.1s 3 b.9 12.1k 7.9 6.j s.q "
    "2.e 4.9 6.6 55.1m 2t.21 l.7 2 2.7 1.1 1.t 1.1 2.8 c.9 1y.7 2.19 2.7 1.1 r.1q 8 8.21 3 i.20 5j.w f.9 "
    "6.8 1.18 1.8 f.9 o.t 2.l 1.d 21.6 1.1 1.17 3 1.1 1.8 8.9 6.5 1.1 1.10 1.1 1.5 7.9 8m.m 9.g 1.14 3.4 "
    "d.a 2d 27.pl 2u.32 h.5f 218.2o f.tr g.l a.32y 5.g6 5a1.1l 1c6.fs 7.u 1.9 6.26 1.9 6.t 2.4 b.1i 9.3 "
    "c.9 9.k 5.i c0.18 3.9 5i.1r 3k.22 4.1k 7.g 1s.1 1.1 b.1 e.4qf 8.yd 15.9 6w7.3 1.6 1.1 1.82 f t.2 2 "
    "e.3 8.az 1s4.2y 5.c 3.8 7.9 3.1 381.9 ee.19 2.m f2.4 3.5 8.7 2.6 u.3 44.2 cb.2c 1.1y 1.1 2 2.1 2.3 "
    "1.b 1 1.6 1.1s 1.3 2.7 1.6 1.r 1.3 1.4 1 3.6 1.9f 2.o 1.o 1.u 1.o 1.u 1.o 1.u 1.o 1.u 1.o 1.7 2.1d "
    "e8.1i 4.1d 8 e m.4 1.e uo.u 6.5 5x.6 1.g 2.6 1.1 1.4 5.1p x 34.18 3.d 2.9 4 8x.u h.1l d2.15 5y.16 "
    "dh.6 1.3 1.1 1.e 1.5g b.6 15.23 4.9 x2.3 1.q 1.1 1 2 1.9 1.3 1 1 6 4 1 1 1.2 1.1 1 2 1 1 1 1 1.1 1 "
    "2.3 1.6 1.3 1.3 1 1.9 1.g 5.2 1.4 1.g hg.p 6.p 6.p 21y.9 sm.wyn w.37d 6.65 2.4g1 e.5rk f.h9 1wi.f1 "
    "15u.3t6 5.38f f9e8.6n"
)

#: What the StripAccents normalizer drops: category M of Unicode 9.
MARKS = CharacterClass(
    "lc.33 7n.6 7b.18 1 1.1 1.1 1 20.a 1c.k g 2t.6 2.5 2.1 1.3 z u.q 2j.a 1m.8 y.3 1.8 1.2 1.4 17.2 3c.d "
    "1.w 1i.2 1.h 1.6 a.1 t.2 1k 1.6 2.1 2.2 9 a.1 t.2 1k 1.4 4.1 2.2 3 u.1 3 b.2 1k 1.7 1.2 1.2 k.1 t.2 "
    "1k 1.6 2.1 2.2 8.1 a.1 u 1n.4 3.2 1.3 9 14.3 1m.6 1.2 1.3 7.1 b.1 t.2 1k 1.6 1.2 1.3 7.1 b.1 t.2 1m.6 "
    "1.2 1.3 9 a.1 u.1 1y 4.5 1 1.7 i.1 1p 2.6 c.7 2q 2.5 1.1 b.5 22.1 r 1 1 4.1 1d.j 1.1 5.a 1.z 9 2s.j "
    "n.3 4.2 1.2 2.6 3.3 d.b 1 a.3 jj.2 qa.2 t.2 t.1 u.1 1s.v 9 19.2 3b.1 y 3a.b 4.b 63.4 1l.9 1.s 2 1c.e "
    "1t.4 1b.g 12.8 c.2 u.c 1k.d 1c.j 48.2 1.k 4 4.2 3.1 5i.1h 5.4 k0.w 2da.2 3x 2o.v fe.5 2x.1 n9w.3 1.9 "
    "w.1 28.1 7k 3 4 n.4 2g.1 1e.h q.h 1g.7 p.c 18.3 1b.d 10 1v.d c 8.1 19.2 1e 1.2 2.1 5.1 1 15.4 5.1 "
    "6k.7 1.1 fn4 kh.f g.f r1 6a 45.4 1ae.2 1.1 5.3 14.2 4 4l.1 109.2 1h.e 1k.3 19.a 1x.2 10.d 1q c.2 1c.d "
    "9.2 2n.b 6 4g.b l.3 1k 1.6 2.1 2.2 9 a.1 2.6 3.4 5c.h 2x.j 6j.6 2.8 r.1 2a.g 2y.c 2t.e zn.7 1.7 2a.l "
    "1.d fg9.4 1n.6 t6.19 g.3 f7u.1 43q.4 3.5 8.7 2.6 u.3 44.2 1iz.1i 4.1d 8 e m.4 1.e 11s.6 1.g 2.6 1.1 "
    "1.4 1ph.6 31.6 gzhx.6n"
)

#: Code points that Unicode 9 had not assigned: the library normalizes none of them (NFC, NFD, NFKC, NFKD).
UNSETTLED = CharacterClass(
    "oo.1 6.3 7 1 k b1 12.1 7 13 2.1 3 1j.7 r.4 5.a t 6o 1o.1 2t.d 1n.4 1a.1 f s.1 1.1s l 8.l 4w 8.1 2.1 m "
    "7 1.2 4.1 9.1 2.1 4.7 1.3 2 5.1 m.4 3 6.3 2.1 m 7 2 2 2.1 1 5.3 2.1 3.2 1.6 4 1.6 g.a 3 9 3 m 7 2 5.1 "
    "a 3 3.1 1.e 4.1 c.6 1.6 3 8.1 2.1 m 7 2 5.1 9.1 2.1 3.7 2.3 2 5.1 i.9 2 6.2 3 4.2 2 1 2.2 2.2 3.2 c.3 "
    "5.2 3 4.1 1.5 1.d l.4 4 8 3 n g.2 8 3 4.6 2 3.4 4.1 a.7 c 8 3 n a 5.1 9 3 4.6 2.6 1 4.1 a 2.d 3 8 3 "
    "15.1 8 3 6.3 g.1 q.1 2 i.2 o 9 1.1 7.2 1.3 6 1 8.5 a.1 3.b 1m.3 t.10 2 1.1 2 1.1 1.5 4 7 3 1 1.1 2 d "
    "3.1 5 1 6.1 a.1 4.v 20 10.3 13 10 f d.10 5i 1.4 1.1 ah 4.1 7 1 4.1 15 4.1 x 4.1 7 1 4.1 f 1l 4.1 1v.1 "
    "w.2 q.5 2e.1 6.1 il.2 2h.6 d 7.a n.8 k.b d 3 2.b 2m.1 a.5 a.5 f a.5 2g.7 17.4 1y.9 v c.3 c.3 1.2 16.1 "
    "5.a 18.3 q.5 b.2 1q.1 1t t.1 b.5 a.5 e.1 f.1s 24.3 19.2 38.7 1o.2 f.2 1o.1i 8.7 13 2.5 6u.4 7v.1 6.1 "
    "12.1 6.1 8 1 1 1 v.1 1h f e.1 6 j.1 3 9 2t c.1 r d.2 v.g x.e 3w.3 hb 13.o b.k 1ec.1 w.1 y.2 c 8.p 4.f "
    "1b 1b 44.4 19 1.4 1.1 1k.6 2.d o.8 7 7 7 7 7 7 7 7 2t.1m q 2h.b 5y.p c.3 1s 2e.1 2v.4 15.2 2m 17.4 "
    "10.b 1b 67 59y.9 g7q.15 wd.2 1j.8 9o.j 54.7 4v 8.1q 1h.3 a.5 1k.7 1y.7 c.5 u.1 2c.a u.2 26 b.3 x 1j.8 "
    "e.1 a.1 2v.n s.9 6.1 6.1 6.8 7 7 1i.9 3i.1 a.5 8mc.b n.3 1d.3 6su.1 2y.11 7.b 5.4 q 5 1 2 2 3g.g a5.f "
    "1s.1 1i.13 e.1 q.5 1f j 4.3 5 3r.1 1 5a.2 6.1 6.1 6.1 3.2 7 7.9 5.1 c q j 2 f.1 e.x 3f.4 3.3 19.2 2g "
    "c.3 1.1a 1a.3l t.2 1d.e s.3 10.b r.4 17.4 u 11.3 e.15 4e.1 a.5 10.3 10.3 14.7 1g.a 1.3z 8n.8 m.9 8.47 "
    "6.1 1 18 2.2 1.1 n 20.7 9.1b j 2.4 x.2 r.4 1.1r 1k.3 k.1 1e 2.4 8 3 r.3 3.3 9.7 9.6 1s.v 13.3 c.8 "
    "1i.2 t.1 r.4 q.6 4.b 7.27 21.1i 1f.c 1f.6 6.9r v.ao 26.3 u.e 1v.d p.6 a.5 1h e.b 13.8 26.1 g k.a i "
    "18.1s 7 1 4 f b.5 1n.4 a.5 4 8.1 2.1 m 7 2 5.1 9.1 2.1 3.1 1.5 1.4 7.1 7.2 5.3u 2i 1 1.x 20.7 a.4l "
    "1i.1 12.x 1x.a a.5 d.i 1k.7 a.1h q.2 f.3 g.9r 2b.b 1.cf 1l.7a 9 19 e.9 t.2 w.1 m e.nc pm.2t 33 5.a "
    "5g.24b tr.34g g7.6ns ft.6 v a.3 2.2n u.1 6.9 1y.9 a 7 l.4 j.of 1x.a 1b.f h.1r 1.u 4q5.i kz.7bg 2.2d9 "
    "2z.4 d.2 9.6 a.1 8.3tn 6u.9 13.1 5c.m 1y.55 2f.8 i.3x 2d 1z 2.1 1.1 2.1 4 c 1 7 1t 4.1 8 7 s 4 5 1.2 "
    "7 9g.1 84.1 ji.e 5 f.11r 7 h.1 7 2 5.1jo 5h.1 g.14 23.4 a.3 2.wv 4 r 2 1.1 1 a 4 1 1.5 1.3 1 1 1 3 2 "
    "1.1 1 1 1 1 1 2 1.1 4 7 4 4 1 a h.4 3 5 h.1f 2.7h 18.3 2s.b f.1 f f 11.9 d.2 v 1o.3 1p.1k t.c 18.3 "
    "9.6 2.4t r7.c d.2 7.8 38.b 2d.16 c.3 1k.7 a.5 14.7 u.2p f 8.7 1.1 c c.3 f.w i.19 1.18e wyf.14 379.a "
    "66.1 4g2.865 f2.fheq 1.t 2o.3j 6o.1e6n 1eke.1 1eke.1"
)

#: Grapheme_Cluster_Break=Extend, without the zero width joiner.
EXTEND = CharacterClass(
    "lc.33 7n.6 7b.18 1 1.1 1.1 1 20.a 1c.k g 2t.6 2.5 2.1 1.3 z u.q 2j.a 1m.8 9 o.3 1.8 1.2 1.4 17.2 1n.8 "
    "16.n 1.v 1j 1 4.7 4 3.6 a.1 t 1m 1 2.3 8 9 a.1 q 2.1 1l 4.1 4.1 2.2 3 u.1 3 b.1 1l 4.4 1.1 4 k.1 m.5 "
    "1 1m 1.1 1.3 8 7.2 a.1 u 1n 1 c 9 14 3 1j 1.2 5.2 1.3 7.1 b.1 t 1m 2.1 1 3.2 1.3 7.1 b.1 s.1 1l.1 1 "
    "2.3 8 9 a.1 t 20 4 2.2 1 8 29 2.6 c.7 2q 2.8 b.6 21.1 r 1 1 1j.d 1.4 1.1 5.a 1.z 9 2u.3 1.5 1.1 2.1 "
    "p.1 4.2 g.3 d 2.1 6 f jj.2 qa.3 s.2 t.1 u.1 1s.1 1.6 8 2.a 9 19.2 1 39.1 y 3a.2 4.1 9 6.2 63.1 2 1m "
    "1.6 1 1 2.7 6.9 2 1c.19 2.b k.3 1c.9 4.2 12.8 c.1 w.3 2.5 1k 1.1 3 1.4 1k.7 2.1 48.2 1.c 1.6 4 6 3.1 "
    "5i.1r ek 5f.w 2da.2 3x 2o.v fe.5 2x.1 n9w.3 1.9 w.1 28.1 7k 3 4 p.1 5 47.1 q.h d 12.7 p.a 1 18.2 1c "
    "2.3 2.1 2 10 1v.5 2.1 2.1 c 8 1b 1f 1.2 2.1 5.1 1 16.1 8 6m 2 4 fn4 kh.f g.f a6.1 gt 6a 45.4 1ae.2 "
    "1.1 5.3 14.2 4 4l.1 fx.3 1t.4 8t.1 25.5 1y.a 1d.3 3f 1i.e 15 2.1 a.2 1d.3 2.1 7 1p.2 10.4 1.7 1q c.1 "
    "1g.8 1 8.3 2 2n.2 2.3 6 2 4d 3.7 l.1 1l.1 1 1 c 9 e.6 3.4 1v 2.5 1 2 1.2 4.2 1 e.1 2d.7 2.2 1 n 29 "
    "2.5 1 2 1.1 1.1 6j 2.3 6.1 1.1 r.1 2d.7 2 1.1 2y 1 2.7 2t 1 2.3 1.4 77.8 1.1 6t a.3 4 40.3 2.1 4 w.9 "
    "14.5 2.3 8 9.5 2.2 1a.c 1.1 5i 1.2 1 5l.6 1.5 1 2a.l 2.6 1.1 1.1 3e.5 3 1.1 1.6 1 20.1 3 1 9n.1 b.1 "
    "1g.4 5.2 n 44l 6.e 8ug.b 3.2 1xc.4 1n.6 t4 1r.3 29 b.1 f57.1 3mp.19 2.m f2.4 3.5 8.7 2.6 u.3 44.2 "
    "1iz.1i 4.1d 8 e m.4 1.e 11s.6 1.g 2.6 1.1 1.4 2s 4g.6 af 1p.3 e4.3 72.1 6r 2 7.1 5 d6.6 31.6 240.4 "
    "gx7k.2n 3k.6n"
)

#: Grapheme_Cluster_Break=SpacingMark.
SPACING_MARKS = CharacterClass(
    "1s3 1j 2.2 8.3 1.1 1e.1 1n.1 6.1 2.1 1i 1m.2 1u 1m.2 8 1.1 1h.1 1o 6.1 2.1 36 1.1 3.2 1.2 1g.2 1p.3 "
    "1p.1 1m 2 1.1 1a e.1 1n.1 5.2 1.2 1h.1 24.1 6.6 j.1 1r 3j 3u.1 1r 4x 9.1 p.1 18 1f5 7.7 1.1 9m.3 2.2 "
    "4.1 1.5 68.1 1m 1 l.5 41 1l.3 1s u 4.1 1r 2.2 1 1h.7 8.1 4r l rhn.1 2 2g.1 1e.f 3y 1c 1c.1 4.1 2.1 "
    "33.1 2.1 o 4d 2.1 5 6l.1 1.1 1.1 1 jrn 1 3j 19.2 4.1 37 o.1 1n 1c.2 9 e 2l.2 3.1 4s.2 v.1 1n 1.3 2.1 "
    "2.1 l.1 2d.1 f 1.1 2v.2 8.1 3 2z.1 6 1.1 1 2 6m.1 6.3 2 35.2 8.1 1 31 1.1 32 7 79.2 9 6w.4 1.1 7 1 "
    "3y.2 8.3 4 2c t.1 1q 5l 3 1 5j e 2y 7 2 5x.4 4.1 1 9q.1 c 1c.1 8.1 d0q.2 2sk.1i"
)

#: Grapheme_Cluster_Break=Prepend.
PREPENDED = CharacterClass("16o.5 5z 1d ao.1 28 vf 1f8u f 6s.1 el 12l 1 8y.5 jg cb")

#: Grapheme_Cluster_Break=Control, CR and LF.
CONTROLS = CharacterClass(
    "0.v 2n.w d 12m 3jl 1ks 2.1 o.6 1d.f 17yn 6o.b ab8.f qxs.3 43z.7 h405.v 2o.3j 6o.2rz"
)

#: Extended_Pictographic.
PICTOGRAPHS = CharacterClass(
    "4p 4 68d c 60 m 2i.5 f.1 a7.1 c 4m p.a 4.2 5j 6f.1 a 9 1m.3 1.4 9 2 2.1 2 4 2 1.1 2 3 3.1 8.2 5 1 5.b "
    "b.1 2 1.1 1 i 2.1 i.5 1 1.1 3.1 5 2.1 4.1 b.1 5.1 2 5.1 1 1.1 k.1 5.5 1.3 2 4 2 2.5 1 2 1 1 6 3 6 a.1 "
    "f 2 4 1 4.2 1 b.1 1c.2 9 e e ac.1 cv.2 j.1 1f 4 yi c gp 1 2fze 13.3 2s.b f.1 f e.1 11.9 34.1 c.1 e "
    "2.9 j.1j r.e a k 2.8 1.3 9.m 6.57 2.33 2.1 1.2 2.2a 2.2 1.3 5.71 1.1q b.5 1.n 7.1 2.7 c 2.3 2 4.1 d.1 "
    "2 8.1 9 5.2 c.2 8.2 2 1 4 6 3 6.2d 1c.1x 5.7 2.g 3 1.5 2.c 62.11 c.3 1k.7 a.5 14.7 u.1 c.3 2.d 9.12 "
    "c.1a 1.9 1.54 2g.7 e.41 74.sd"
)

#: Indic_Conjunct_Break=Consonant.
CONJUNCT_CONSONANTS = CharacterClass(
    "1sl.10 u.7 o.7 l.j 1.6 1 3.3 y.1 1 g.1 4j.j 1.6 1.1 1.4 1r r.j 1.6 1.1 1.4 y.1 1 h 4j.j 1.f u.2 56.11 "
    "jp.16 k g.5 4.3 3 3.1 7.2 4.c c 1dd.1f h8.1g 52.1 6.w h.7 1i.t d.1 b.2 s0b.2 3.z 19.4 2.8 a.4 2p.f "
    "1.2 6 3.1 2o.a 5x.q ilh f.3 1.2 1.s 1cd.z t 2 fs.9 1 2 1.11 11m.6 2 2.7 1.1 1.n 5s a.13 t b.13 w0.c "
    "1.x"
)

#: Capital letters that Unicode got after version 13 (Python 3.9): first, last, distance to the small one.
_NEW_CAPITALS = (
    (0x1C89, 0x1C89, 1),
    (0x2C2F, 0x2C2F, 48),
    (0xA7C0, 0xA7C0, 1),
    (0xA7CB, 0xA7CB, -42343),
    (0xA7CC, 0xA7CC, 1),
    (0xA7CE, 0xA7CE, 1),
    (0xA7D0, 0xA7D0, 1),
    (0xA7D2, 0xA7D2, 1),
    (0xA7D4, 0xA7D4, 1),
    (0xA7D6, 0xA7D6, 1),
    (0xA7D8, 0xA7D8, 1),
    (0xA7DA, 0xA7DA, 1),
    (0xA7DC, 0xA7DC, -42561),
    (0x10570, 0x1057A, 39),
    (0x1057C, 0x1058A, 39),
    (0x1058C, 0x10592, 39),
    (0x10594, 0x10595, 39),
    (0x10D50, 0x10D65, 32),
    (0x16EA0, 0x16EB8, 27),
)
#: Those letters with their small ones; of all others ``str.lower`` knows.
NEW_CAPITALS = {
    chr(code): chr(code + step) for first, last, step in _NEW_CAPITALS for code in range(first, last + 1)
}
