"""Every number of the bundled editor's recipe in one place."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class Recipe:
    """Sizes are in pixels of the picture or channels; rates are per optimiser step."""

    # The world
    picture: int = 128
    world_seed: int = 1
    # The autoencoder: patches of 4 x 4 pixels -> all their 48 numbers, in another basis
    patch: int = 4
    latent_channels: int = 48
    component_pairs: int = 384
    # The text encoder
    text_width: int = 160
    text_layers: int = 3
    text_heads: int = 4
    text_tokens: int = 32
    texts: int = 250_000  # read before the first picture: see reading.py
    # The U-Net, on grids of 32, 16 and 8 for a picture of 128 pixels
    channels: tuple[int, ...] = (64, 96, 160)
    layers: tuple[int, ...] = (3, 1, 1)  # the finest grid draws what the others have understood
    words_on: tuple[bool, ...] = (False, True, True)  # where attention stands
    head_width: int = 32
    position_frequencies: int = 5  # up to 8 waves, which 64 pixels cannot tell: see core/positions.py
    groups: int = 16
    time_width: int = 256
    # The diffusion
    train_steps: int = 1000
    beta_end: float = 0.02  # Stable Diffusion's is 0.012; smaller patches want more noise
    pure_noise_share: float = 0.9  # it edits in one step, from pure noise: that step is what counts
    # Conditioning dropout, from one draw: (text, text and image, image)
    dropped: tuple[float, float, float] = (0.05, 0.02, 0.02)
    dropped_image_weight: float = 0.1
    # The loss: see objective.py
    change_floor: float = 0.02
    shown_floor: float = 0.01
    mask_weight: float = 0.2
    layout_weight: float = 0.75
    # The optimiser
    batch: int = 32
    rate: float = 6e-4  # AdamW: gains, biases, embeddings, first and last layer
    matrix_rate: float = 20.0  # Muon: hidden matrices; times `rate`
    warm_up: int = 60
    weight_decay: float = 0.01
    clip: float = 1.0
    ema: float = 0.996
    # The text-to-image base inside: see base.py; every n-th batch is pictures with captions
    pictures_every: int = 8
    base_pure_noise_share: float = 0.1
    base_dropped: float = 0.1
    base_defaults: dict[str, float] = field(
        default_factory=lambda: {"steps": 20, "text_guidance": 3.0, "size": 128}
    )
    # Editing with it
    defaults: dict[str, float] = field(
        default_factory=lambda: {"steps": 1, "text_guidance": 1.0, "image_guidance": 1.0, "size": 128}
    )

    def to_json(self) -> dict[str, object]:
        """A dictionary that JSON can hold."""
        return asdict(self)
