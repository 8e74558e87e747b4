"""``tiedlm analyze``: show the geometry of a model's word vectors and classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tiedlm.cli import shown
from tiedlm.json_text import to_json


def analyze(
    run: Path,
    /,
    *words: str,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Show subspace distance, principal angles, norms, and the neighbours of words.

    Parameters
    ----------
    run
        Run folder.
    words
        Words whose nearest neighbours to show; by default a few frequent words.
    json_
        Print JSON instead of text.
    """
    from tiedlm.cli.models import load_model
    from tiedlm.evaluation.subspace import describe_geometry

    found = describe_geometry(load_model(run)[0], words)
    if json_:
        print(to_json(found))
        return
    print(f"subspace distance of L^T and W  {found['subspace_distance']:.4f}")
    angles = found["principal_angles_degrees"]
    print(f"principal angles (degrees)      {min(angles):.2f} to {max(angles):.2f}")
    print(f"mean norm of a word vector      {found['mean_norm_embedding']:.4f}")
    print(f"mean norm of a classifier row   {found['mean_norm_classifier']:.4f}")
    for word, neighbours in found["neighbours"].items():
        near = (f"{shown(n['word'])} {n['cosine']:.2f}" for n in neighbours)
        print(f"{shown(word):<16} " + "  ".join(near))
