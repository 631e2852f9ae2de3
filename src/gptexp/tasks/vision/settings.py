"""Settings of task=caption and of the images that it learns from."""

from dataclasses import dataclass

from gptexp.config.registry import register
from gptexp.config.schema import Config, GeneratedConfig, HubConfig, MediaTableConfig, TaskConfig
from gptexp.errors import UserError
from gptexp.extras import require_extra
from gptexp.setting_field import setting

MODULES = ("PIL",)  # of gptexp[vision]


@register
@dataclass
class CaptionConfig(TaskConfig):
    kind: str = "caption"
    target = "gptexp.tasks.vision.caption:Caption"
    archs = ("prefix", "decoder")
    image_size: int = setting(32, "height and width to which an image is scaled", minimum=4)
    patch_size: int = setting(
        8, "height and width of a patch, which is one position of the sequence", minimum=1
    )
    frames: int = setting(1, "frames of a clip, at equal distances in time", minimum=1)
    frames_per_patch: int = setting(1, "frames that one patch spans", minimum=1)
    max_target_tokens: int = setting(24, "longest caption in tokens", minimum=1)

    @property
    def num_patches(self) -> int:
        return self.frames // self.frames_per_patch * (self.image_size // self.patch_size) ** 2

    def check_lengths(self, context: int) -> None:
        if self.num_patches + self.max_target_tokens + 1 > context:
            raise UserError(
                f"model.context={context}: too short for {self.num_patches} patches and "
                f"task.max_target_tokens={self.max_target_tokens}"
            )

    @property
    def feature_size(self) -> int:  # type: ignore[override]
        return 3 * self.patch_size**2 * self.frames_per_patch

    def check(self, config: Config) -> None:
        super().check(config)
        require_extra("vision", MODULES)


@register
@dataclass
class ScenesConfig(GeneratedConfig):
    kind: str = "scenes"
    target = "gptexp.tasks.vision.scenes:Scenes"
    level: str = setting(
        "one",
        "one: an object and its position; mixed: also relations and numbers; video: clips",
        choices=("one", "mixed", "video"),
    )
    examples: int = setting(12000, "number of drawings, the unseen pairs included", minimum=100)

    def check(self, config: Config) -> None:
        super().check(config)
        require_extra("vision", MODULES)


@register
@dataclass
class ImagesConfig(MediaTableConfig):
    kind: str = "images"
    target = "gptexp.tasks.vision.images:Images"

    def check(self, config: Config) -> None:
        super().check(config)
        require_extra("vision", MODULES)


@register
@dataclass
class HubImagesConfig(HubConfig):
    kind: str = "hub_images"
    target = "gptexp.tasks.vision.hub_images:HubImages"

    def check(self, config: Config) -> None:
        super().check(config)
        require_extra("vision", MODULES)
