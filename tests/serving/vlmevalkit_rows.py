"""Runs VLMEvalKit on the rows of `test_vlmevalkit.py`; executed by the Python of its own environment.

    python vlmevalkit_rows.py FOLDER DATASET BASE_URL

FOLDER holds DATASET.tsv. Written there are `pixels.json` (the images as VLMEvalKit sends them, base64 by
index), `letters.json` and `figures.txt` (its own figures).

The datasets are VLMEvalKit's own classes; only the checksum of the hub's file is not asked for, because the
rows are ours.
"""

# VLMEvalKit is installed in another environment.
# mypy: ignore-errors

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

folder, name, base_url = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
os.environ["LMUData"] = str(folder)  # noqa: SIM112  (its name for it)

from PIL import Image  # noqa: E402
from vlmeval.api import LMDeployAPI  # noqa: E402
from vlmeval.dataset.image_mcq import (  # noqa: E402
    HRBenchDataset,
    ImageMCQDataset,
    MMERealWorld,
    TreeBench,
)
from vlmeval.inference import FAIL_MSG, infer_data_job  # noqa: E402
from vlmeval.smp import encode_image_to_base64, load  # noqa: E402

CLASSES = {
    "VStarBench": ImageMCQDataset,
    "HRBench4K": HRBenchDataset,
    "MME-RealWorld-Lite": MMERealWorld,
    "TreeBench": TreeBench,
}
rows = type("Rows", (CLASSES[name],), {"DATASET_MD5": {}})(name)

sent = {}
for position in range(len(rows)):
    (path,) = [part["value"] for part in rows.build_prompt(position) if part["type"] == "image"]
    sent[str(rows.data.iloc[position]["index"])] = encode_image_to_base64(Image.open(path))
(folder / "pixels.json").write_text(json.dumps(sent))

model = LMDeployAPI(model="p2r-letter", api_base=f"{base_url}/v1/chat/completions", key="none", retry=2)
infer_data_job(model, str(folder), "p2r", rows, api_nproc=4)
(table,) = folder.glob(f"p2r_{name}.xlsx")
# An empty reply, which names no answer, is a failed call for it.
answers = {
    str(row["index"]): "" if FAIL_MSG in str(row["prediction"]) else str(row["prediction"]).strip()
    for _, row in load(str(table)).iterrows()
}
(folder / "letters.json").write_text(json.dumps(answers))
figures = rows.evaluate(str(table), model="exact_matching", nproc=1)
(folder / "figures.txt").write_text(str(figures))
