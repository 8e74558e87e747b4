"""The table of ``tiedlm score``."""

import io

import numpy as np
import pytest

from tiedlm.errors import UserError
from tiedlm.scoring import Scored, Sentence
from tiedlm.scoring.table import write_table


def scored(surprisal):
    """Return a scored sentence of the third line."""
    ids = np.arange(len(surprisal), dtype=np.int32)
    words = (*"abcdefgh"[: len(ids) - 1], "<eos>")
    values = np.array(surprisal)
    return Scored(Sentence(1, 3, words, ids), values, values, values, ids.astype(np.int64), None)


def write(one):
    return write_table(io.StringIO(), [one], unk_id=None, base="e", unit="sentence", eos_rows=True)


def test_nothing_precedes_a_first_word_but_a_later_one_must_have_a_number():
    assert write(scored([np.nan, 1.0, 2.0])).predicted == 2
    with pytest.raises(UserError, match=r"^line 3: the model's probabilities are not finite"):
        write(scored([0.5, np.nan, 2.0]))
