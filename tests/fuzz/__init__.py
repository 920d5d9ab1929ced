"""Files with faults in them, by the thousand: nothing but our own errors may come of them.

``python -m tests.fuzz --count 20000 --seed 1 --only tokenizer`` runs as long as it is told to, and
``test_fuzz.py`` a few hundred of each kind.
What was found has a test of its own beside the code it was found in.
"""
