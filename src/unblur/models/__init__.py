"""Every network, one file per architecture, built by name."""

from unblur.models import (  # noqa: F401  (importing a module registers its networks)
    deblur_net,
    late_fusion_unet,
    light_unet,
    ms_deblur_net,
    nafnet,
    patchgan_critic,
    plain,
    rednet30,
    res_unet,
    resnet16,
    unet16,
    unshuffle_unet,
    wiener_unet,
)
from unblur.models.base import RestorationModel
from unblur.models.registry import ConfigError, create_model, list_models, model_options, register

__all__ = [
    "ConfigError",
    "RestorationModel",
    "create_model",
    "list_models",
    "model_options",
    "register",
]
