"""How sets of labels are read: what is a prefix, and what is outside."""

from __future__ import annotations

import pytest

from obert_edge.device.pipelines.tagging import Tag, Tagging, spans


@pytest.mark.parametrize(
    ("labels", "scheme", "outside"),
    [
        (["O", "B-PER", "I-PER"], "IOB", "O"),
        (["O", "I-PER", "I-LOC"], "IOB", "O"),
        (["B-PER", "I-PER"], "IOB", None),
        (["OUT", "B-PER", "I-PER"], "IOB", "OUT"),
        (["_", "B-PER", "I-PER"], "IOB", "_"),
        (["o", "b-per", "i-per"], "IOB", "o"),
        (["O", "B_PER", "I_PER"], "IOB", "O"),
        (["O", "PER-B", "PER-I"], "IOB", "O"),
        (["O", "B", "I"], "IOB", "O"),
        (["O", "B-PER", "I-PER", "MISC"], "IOB", "O"),
        (["O", "S-PER"], "BIOES", "O"),
        (["O", "B-A", "I-A", "L-A", "U-A"], "BILOU", "O"),
        (["O", "B-A", "M-A", "E-A", "S-A"], "BMES", "O"),
        (["O", "WORK-OF-ART", "PER"], "plain", "O"),
        (["O", "e-mail", "i-phone"], "plain", "O"),
        (["O", "E-COMMERCE", "PRODUCT"], "plain", "O"),
        (["NOUN", "VERB"], "plain", None),
        (["LABEL_0", "LABEL_1"], "plain", None),
        (["O"], "plain", "O"),
        ([], "plain", None),
    ],
)
def test_a_set_of_labels_tells_how_it_is_meant(labels, scheme, outside):
    tagging = Tagging.of(labels)
    assert (tagging.scheme, tagging.outside) == (scheme, outside)


@pytest.mark.parametrize(
    ("labels", "label", "tag"),
    [
        (["O", "B-WORK-OF-ART"], "B-WORK-OF-ART", Tag("B", "WORK-OF-ART")),
        (["O", "WORK-OF-ART"], "WORK-OF-ART", Tag("I", "WORK-OF-ART")),
        (["O", "B-A", "L-A", "U-A"], "L-A", Tag("E", "A")),
        (["O", "B-A", "L-A", "U-A"], "U-A", Tag("S", "A")),
        (["O", "B-A", "I-A", "MISC"], "MISC", Tag("I", "MISC")),
        (["O", "B-A", "I-A", "E-mail"], "E-mail", Tag("E", "mail")),
        (["O", "B", "I"], "B", Tag("B", "_")),
        (["O", "PER-B"], "PER-B", Tag("B", "PER")),
        (["O", "B-A"], "O", Tag("O", "")),
        (["O", "B-A"], "LABEL_9", Tag("I", "LABEL_9")),
    ],
)
def test_a_label_is_read_as_its_set_is_meant(labels, label, tag):
    assert Tagging.of(labels).read(label) == tag


def test_entities_end_where_their_last_word_says_so():
    tagging = Tagging.of(["O", "B-A", "I-A", "E-A", "S-A"])
    labels = ["B-A", "E-A", "E-A", "I-A", "S-A", "I-A", "O", "I-A"]
    assert spans([tagging.read(label) for label in labels]) == [
        ("A", 0, 2),
        ("A", 2, 3),
        ("A", 3, 4),
        ("A", 4, 5),
        ("A", 5, 6),
        ("A", 7, 8),
    ]
