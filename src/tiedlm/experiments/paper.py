"""Hold the paper's tables and the phrases of its qualitative comparison as data.

Source: Inan et al. (2017), the ICLR version of arXiv:1611.01462.
"""

from __future__ import annotations

from typing import NamedTuple


class Published(NamedTuple):
    """The perplexities in a cell of a table.

    Args:
        valid: validation perplexity, or None if the paper does not give it.
        test: test perplexity.
        confirmed: whether the number was read in the paper; False means it is from memory.
    """

    valid: float | None
    test: float
    confirmed: bool = True


FIGURE1_RUNS = 10  # runs averaged at each point

# Table 1, by recipe. On PTB the small AL, RE and REAL train in two sessions (footnote 4).
TABLE1 = {
    "ptb-small": Published(92.6, 87.3),
    "ptb-small-al": Published(86.3, 82.9),
    "ptb-small-re": Published(89.9, 85.1),
    "ptb-small-real": Published(86.3, 82.7),
    "ptb-medium": Published(82.0, 77.7),
    "ptb-medium-al": Published(77.4, 74.7),
    "ptb-medium-re": Published(77.1, 73.9),
    "ptb-medium-real": Published(75.7, 73.2),
    "ptb-large": Published(76.8, 72.6),
    "ptb-large-al": Published(74.5, 71.2),
    "ptb-large-re": Published(72.5, 69.0),
    "ptb-large-real": Published(71.1, 68.5),
    "wikitext-2-small": Published(112.2, 105.9, confirmed=False),
    "wikitext-2-small-al": Published(110.3, 103.8),
    "wikitext-2-small-re": Published(106.1, 100.5),
    "wikitext-2-small-real": Published(105.6, 98.9),
    "wikitext-2-medium": Published(100.2, 95.3, confirmed=False),
    "wikitext-2-medium-al": Published(98.8, 93.1),
    "wikitext-2-medium-re": Published(92.3, 87.7),
    "wikitext-2-medium-real": Published(91.5, 87.0),
}

# Table 2: the small models on the first and on the second half of WikiText-2's training text.
TABLE2 = {
    "wikitext-2-small": (Published(159.1, 148.0), Published(163.19, 148.6)),
    "wikitext-2-small-al": (Published(153.0, 142.5), Published(156.4, 143.7)),
    "wikitext-2-small-re": (Published(152.4, 141.9), Published(152.5, 140.9)),
    "wikitext-2-small-real": (Published(149.3, 140.6), Published(150.5, 138.4)),
}


class Other(NamedTuple):
    """A row of Table 3: a published model on Penn Treebank."""

    model: str
    parameters: str
    valid: float | None
    test: float


TABLE3 = (
    Other("KN-5 (Mikolov and Zweig 2012)", "2M", None, 141.2),
    Other("LSTM, medium (Zaremba et al. 2014)", "20M", 86.2, 82.7),
    Other("LSTM, large (Zaremba et al. 2014)", "66M", 82.2, 78.4),
    Other("VD-LSTM, medium, untied (Gal 2015)", "20M", 81.9, 79.7),
    Other("VD-LSTM, large, untied (Gal 2015)", "66M", 77.9, 75.2),
    Other("VD-LSTM, large, untied, MC (Gal 2015)", "66M", None, 73.4),
    Other("CharCNN (Kim et al. 2015)", "19M", None, 78.9),
    Other("Pointer Sentinel-LSTM (Merity et al. 2016)", "21M", 72.4, 70.9),
    Other("38 large LSTMs (Zaremba et al. 2014)", "2.51B", 71.9, 68.7),
    Other("10 large VD-LSTMs (Gal 2015)", "660M", None, 68.7),
    Other("VD-RHN (Zilly et al. 2016)", "32M", 71.2, 68.5),
    Other("VD-LSTM + REAL, medium (the paper)", "14M", 75.7, 73.2),
    Other("VD-LSTM + REAL, large (the paper)", "51M", 71.1, 68.5),
    Other("VD-RHN + RE (the paper's best row)", "24M", 68.1, 66.0),
)

# Section 5: each context, and the word that follows it in Penn Treebank's test text.
PHRASES = (
    ("information international said it believes that the complaints filed in", "federal"),
    ("oil company refineries ran flat out to prepare for a robust holiday driving season in july "
     "and", "august"),
    ("southmark said it plans to <unk> its <unk> to provide financial results as soon as its audit "
     "is", "completed"),
    ("merieux said the government 's minister of industry science and", "technology"),
)  # fmt: skip

# Sizes of a corpus, for cost estimates: tokens in the training text, and words in the vocabulary.
SIZES = {"ptb": (929_589, 10_000), "wikitext-2": (2_088_628, 33_278)}
