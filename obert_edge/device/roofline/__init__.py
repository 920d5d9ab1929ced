"""The roofline: the one model of speed.

``work`` counts what an op has to do at least, ``peaks`` holds what a machine can do at most (``measure``
finds it out), and ``bound`` turns both into a time. ``profile`` compares that time with a measured one,
``estimate`` predicts a bundle from its target's stored numbers, and ``format_cost`` is the packer's form of
the same law.

Source: Williams, Waterman and Patterson 2009, "Roofline: an insightful visual performance model".
"""
