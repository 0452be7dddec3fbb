"""LPIPS: the distance of two images in the features of VGG16, weighted as people judge it.

R. Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric", CVPR
2018, version 0.1 with VGG16. The features' weights are torchvision's file; those of the distance
come with torchmetrics.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from unblur.evaluation.errors import EvaluationError
from unblur.metrics import Image

_SMALLEST = 16  # pixels a side; four poolings come before the last layer
_LAYERS = ("conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3")


class Lpips:
    """A loaded metric; images are H×W×3 in [0, 1].

    weights: torchvision's VGG16 file; by default it is downloaded once to the user's cache.
    Raises EvaluationError when something that it needs is not there.
    """

    def __init__(self, weights: Path | None = None) -> None:
        try:
            import torch
            import torchmetrics
        except ModuleNotFoundError as error:
            raise EvaluationError("lpips needs torch: pip install 'unblur[train]'") from error
        from unblur.losses.perceptual import VGGFeatures, WeightsError

        try:
            self._features = VGGFeatures("vgg16", _LAYERS[-1], weights)
        except WeightsError as error:
            raise EvaluationError(
                f"lpips: VGG16's weights cannot be had; name torchvision's file with "
                f"--lpips-weights ({str(error).split('; ')[0]})"
            ) from error
        first = next(self._features.parameters()).detach().numpy()
        self.fingerprint = hashlib.sha256(first.tobytes()).hexdigest()  # of the weights' file
        folder = Path(torchmetrics.__file__).parent / "functional" / "image" / "lpips_models"
        try:
            content = torch.load(folder / "vgg.pth", map_location="cpu", weights_only=True)
        except OSError as error:
            raise EvaluationError(f"lpips: this torchmetrics lacks {folder / 'vgg.pth'}") from error
        self._weights = [content[f"lin{number}.model.1.weight"] for number in range(len(_LAYERS))]

    def __call__(self, restored: Image, sharp: Image) -> float | None:
        """None for images that its network reduces to nothing."""
        import torch

        if min(sharp.shape[:2]) < _SMALLEST:
            return None

        with torch.no_grad():
            first, second = (
                self._normalized(
                    torch.from_numpy(image.transpose(2, 0, 1)[None].astype(np.float32))
                )
                for image in (restored, sharp)
            )
            terms = [
                torch.nn.functional.conv2d((a - b).square(), weight).mean()
                for a, b, weight in zip(first, second, self._weights, strict=True)
            ]
        return float(sum(terms))

    def _normalized(self, image: Any) -> list[Any]:
        """The features after each block's last ReLU, of length 1 at every place."""
        features = self._features.after_relu(image, _LAYERS)
        return [each / (each.square().sum(1, keepdim=True).sqrt() + 1e-10) for each in features]
