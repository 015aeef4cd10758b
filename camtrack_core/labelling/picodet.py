"""PicoDet as a teacher: a COCO detector in ncnn's form, run by the package ncnn.

Four strides of class scores and, for each side of a box, eight bins of distance whose expectation is the distance
(Generalized Focal Loss, Li et al. 2020).
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from camtrack_core.errors import ModelError
from camtrack_core.geometry.boxes import Boxes2D, Floats
from camtrack_core.labelling.teacher import COCO_GROUPS, SCORE_FLOOR, suppress

SIDE, STRIDES, BINS = 416, (8, 16, 32, 64), 8
MEAN, SCALE = (123.675, 116.28, 103.53), (0.017125, 0.017507, 0.017429)  # of RGB, ImageNet's


class PicoDet:
    """A PicoDet graph with COCO classes, on one thread. It looks at images stretched to a square.

    Args:
        path: the .param file; the weights lie beside it with the ending .bin.

    Raises:
        ModelError: the files are missing or no such graph, or the package ncnn is missing.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        try:
            import ncnn
        except ImportError as error:
            raise ModelError(
                f"{path}: the package ncnn runs this teacher; install it with `pip install ncnn`"
            ) from error
        self._ncnn, self._net = ncnn, ncnn.Net()
        self._net.opt.num_threads = 1
        files = path, path.with_suffix(".bin")
        if any(not file.is_file() for file in files) or any(
            read(str(file)) for read, file in zip((self._net.load_param, self._net.load_model), files, strict=True)
        ):
            raise ModelError(f"{path}: expected a PicoDet graph of ncnn with its .bin beside it")

    def __call__(self, image: NDArray[np.uint8]) -> Boxes2D:
        """Vehicles, persons and cycles in a BGR image; class_ids are COCO's."""
        pixels = cv2.resize(image, (SIDE, SIDE))
        tensor = self._ncnn.Mat.from_pixels(pixels, self._ncnn.Mat.PixelType.PIXEL_BGR2RGB, SIDE, SIDE)
        tensor.substract_mean_normalize(list(MEAN), list(SCALE))
        extractor = self._net.create_extractor()
        extractor.input("image", tensor)
        blobs = [np.array(extractor.extract(f"save_infer_model/scale_{i}.tmp_1")[1]) for i in range(2 * len(STRIDES))]
        boxes = decode(blobs[: len(STRIDES)], blobs[len(STRIDES) :])
        height, width = image.shape[:2]
        xyxy = np.clip(boxes.xyxy * ([width / SIDE, height / SIDE] * 2), 0, [width, height] * 2)
        return suppress(Boxes2D(xyxy, boxes.scores, boxes.class_ids))


def decode(scores: list[Floats], bins: list[Floats]) -> Boxes2D:
    """Boxes in input pixels of the classes in COCO_GROUPS above the floor.

    Args:
        scores: of each stride (cells, 80), probabilities.
        bins: of each stride (cells, 4 * BINS), logits of the distances left, up, right, down in strides.
    """
    wanted = np.concatenate([np.array(group) for group in COCO_GROUPS])
    found = []
    for stride, score, logits in zip(STRIDES, scores, bins, strict=True):
        columns = -(-SIDE // stride)
        row, column = np.divmod(np.arange(len(score)), columns)
        centre = (np.stack([column, row], 1) + 0.5) * stride
        chance = np.exp(logits.reshape(-1, 4, BINS) - logits.reshape(-1, 4, BINS).max(2, keepdims=True))
        distance = chance @ np.arange(BINS) / chance.sum(2) * stride
        xyxy = np.concatenate([centre - distance[:, :2], centre + distance[:, 2:]], 1)
        class_ids = score.argmax(1)
        keep = (score.max(1) > SCORE_FLOOR) & np.isin(class_ids, wanted)
        found.append(Boxes2D(xyxy[keep], score.max(1)[keep].astype(float), class_ids[keep]))
    return Boxes2D(
        np.concatenate([f.xyxy for f in found]),
        np.concatenate([f.scores for f in found]),
        np.concatenate([f.class_ids for f in found]),
    )
