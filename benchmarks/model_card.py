"""Writes the demo bundle's model card again, from the weights that ship.

    python benchmarks/model_card.py NIH_FOLDER --work DIR

`cfkit train demo` ends with the same figures; this measures them without training.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cfkit
from cfkit.train.demo import write_model_card
from cfkit.train.evaluate import evaluate
from cfkit.train.films import render_split

SPLIT = """The judge and the CLIP-style model are trained on other patients than the classifier that guides edits, but
  for NIH patients 7, 10, 15, 18 and 21: of these they have films at 64 px and the classifier those at 512 px. The split
  by patient was not one across sizes when these weights were trained; `cfkit train demo` shares none now."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nih", type=Path, help="real films: labels.csv, images/ and images64/")
    parser.add_argument("--work", type=Path, default=Path("cfkit-train"), help="rendered films, kept between calls")
    given = parser.parse_args()
    render_split("validation", given.work / "films")
    bundle = cfkit.load_bundle("demo", device="cpu")
    write_model_card(bundle.folder, evaluate(bundle, given.work / "films", given.nih), SPLIT)


if __name__ == "__main__":
    main()
