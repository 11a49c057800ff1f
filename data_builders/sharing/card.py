"""The README of an exported folder: what it holds, and how other libraries read it."""

from __future__ import annotations

import json
from collections.abc import Mapping

from data_builders.sharing.listing import INFORMATION, Listing

_READ = {
    "webdataset": """import glob

import webdataset

files = sorted(glob.glob("{split}-*.tar"))
for sample in webdataset.WebDataset(files, shardshuffle=False).decode("pil"):
    sample["{quality}.png"], sample["json"]["label"]""",
    "parquet": """from datasets import load_dataset

rows = load_dataset("parquet", data_files="{split}-*.parquet", split="train")
rows[0]["image_{quality}"], rows[0]["label"]""",
}


def card(listing: Listing, digests: Mapping[str, str]) -> str:
    """Writes the page, which begins with what the Hub of Hugging Face reads.

    Args:
      listing: What the folder holds.
      digests: The digest of each split, where it is known.
    """
    suffix = {"webdataset": "tar", "parquet": "parquet"}[listing.format]
    files = [
        line
        for split in listing.splits
        for line in (f"  - split: {split}", f'    path: "{split}-*.{suffix}"')
    ]
    rows = [
        f"| {split} | {sum(shard.records for shard in shards)} | `{digests.get(split, '')}` |"
        for split, shards in listing.splits.items()
    ]
    quality, split = listing.qualities[0], next(iter(listing.splits))
    return "\n".join(
        [
            "---",
            "configs:",
            "- config_name: default",
            "  data_files:",
            *files,
            "---",
            "",
            f"# {listing.place}",
            "",
            "Face crops, each at several qualities: the same frame, the same box. `qad-jax` has",
            f"built and exported them. Qualities: {json.dumps(list(listing.qualities))}. Labels:",
            "0 real, 1 fake. Images are the PNG files of the dataset, not encoded again.",
            "",
            "The terms of the dataset that the crops are made of hold for this copy, too.",
            f"`{INFORMATION}/dataset_info.json` has its description.",
            "",
            "| split | tuples | digest |",
            "|---|---|---|",
            *rows,
            "",
            "```python",
            _READ[listing.format].format(split=split, quality=quality),
            "```",
            "",
            "`qad-jax import-dataset FOLDER --data_dir OUT` makes the dataset of TFDS again, with",
            "equal records and digests.",
            "",
        ]
    )
