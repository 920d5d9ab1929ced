"""Unicode character classes as the Hugging Face tokenizers know them.

Python's ``unicodedata`` follows the Unicode version of the interpreter (13 in Python 3.9, 15.1 in 3.13), and
the ``tokenizers`` library follows its own. A text must give the same ids on every device, so the classes are
frozen here, as that library has them (version 0.23), and a test compares every code point with it.

A table is a list of ranges: ``gap.length`` in base 36, where ``gap`` counts the code points since the end of
the range before and ``length`` those after the first (absent: one code point).
"""

from __future__ import annotations

from bisect import bisect_right
from typing import List


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
