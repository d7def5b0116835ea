"""What a YAML file says of a folder of images: which there are, and how their values are to be read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

import pydantic

from mtlbench.catalogue.yaml_file import read_yaml
from mtlbench.errors import UsageError
from mtlbench.strict import Strict, first_error

from ..geometry import KINECT, KINECT_SIZE, Camera, Size
from ..views import CLASSES, IGNORED

SPLITS = ("train", "val", "test")
COLUMN = re.compile(r"\{(\w+)(?::0(\d))?\}")
"""`{name}`: the cell of that column; `{name:04}`: with zeros before it, four characters."""
Split = Literal["train", "val", "test"]
Class = Annotated[int, pydantic.Field(ge=IGNORED, lt=len(CLASSES))]
Axis = Literal["x", "y", "z"]
Positive = Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]


class Files(Strict):
    """Where the files of one kind are."""

    path: Annotated[str, pydantic.Field(min_length=1)]
    """Below the described folder, with columns of the list in braces: `images/{name}.png`."""
    archive: str | None = None
    """The tar archive, plain or compressed, whose member `path` is; it is read as it is."""
    mirrored: bool | None = None
    """Whether left and right are exchanged; None for what is said of all."""

    @pydantic.field_validator("path")
    @classmethod
    def _only_columns_in_braces(cls, path: str) -> str:
        if set("{}") & set(COLUMN.sub("", path)):
            raise ValueError("in braces stands the name of a column, such as {name} or {name:04}")
        return path

    @property
    def columns(self) -> list[str]:
        """Those that the path needs."""
        return [name for name, _ in COLUMN.findall(self.path)]


class DepthFiles(Files):
    """Images of one channel, or .npy files of shape (H, W)."""

    per_metre: Positive
    """How many units a metre has: 1000 for millimetres."""
    rounded: Literal["nearest", "down"] = "nearest"
    """How values were rounded; of those rounded down, the middle of what they stand for is taken."""
    missing: tuple[float, ...] = (0,)
    """Values that stand for nothing measured."""


class LabelFiles(Files):
    """Images of one channel, or .npy files of shape (H, W)."""

    classes: Annotated[tuple[Class, ...], pydantic.Field(min_length=1, max_length=65536)]
    """Of value 0, 1 and so on the class, from 0 to 12 in the order of `views.CLASSES`; -1 for those ignored."""


class NormalFiles(Files):
    """.npy files of shape (H, W, 3), or colour images whose values 0 to 255 stand for -1 to 1."""

    negated: tuple[Axis, ...] = ()
    """Axes that point away from x to the right, y up, z towards the camera."""


class Derived(Strict):
    """How normals follow from depth, see `geometry.normals`."""

    window: Annotated[int, pydantic.Field(ge=3, le=201)] = 21
    jump: Annotated[float, pydantic.Field(gt=0, lt=1)] = 0.03

    @pydantic.field_validator("window")
    @classmethod
    def _odd(cls, window: int) -> int:
        if window % 2 == 0:
            raise ValueError("it must be odd, so that the window has a middle")
        return window


class CameraOf(Strict):
    """The camera, in pixels of an image of this size that is not mirrored."""

    height: Annotated[int, pydantic.Field(ge=1)] = KINECT_SIZE[0]
    width: Annotated[int, pydantic.Field(ge=1)] = KINECT_SIZE[1]
    fx: Positive = KINECT.fx
    fy: Positive = KINECT.fy
    cx: float = KINECT.cx
    cy: float = KINECT.cy

    def at(self, size: Size) -> Camera:
        """The camera of images of another size."""
        return Camera(self.fx, self.fy, self.cx, self.cy).resized((self.height, self.width), size)


class SplitColumn(Strict):
    """Which split a row is of."""

    column: str = "split"
    words: dict[str, Split] = pydantic.Field(default={"train": "train", "val": "val", "test": "test"})
    """What stands in the column -> the split."""


class SceneColumn(Strict):
    """Which scene a row is of, so that no scene is both trained on and selected by."""

    column: str
    numbers: Annotated[int, pydantic.Field(ge=1)] | None = None
    """How many consecutive numbers are taken for one scene; None: what stands in the column is the scene."""


class Description(Strict):
    """A folder of images of rooms."""

    title: str
    csv: str
    """The CSV file, with a header, that lists the views, one a line."""
    split: SplitColumn = SplitColumn()
    scene: SceneColumn | None = None
    """Needed where no view is of the split `val`; None: every view is a scene of its own."""
    image: Files
    depth: DepthFiles
    label: LabelFiles
    label_of: dict[Split, LabelFiles] = pydantic.Field(default={})
    """Splits whose labels are elsewhere."""
    normal: NormalFiles | None = None
    """None: normals are derived from the depth."""
    mirrored: bool = False
    """Whether left and right are exchanged in all files that do not say otherwise."""
    camera: CameraOf = CameraOf()
    derived: Derived = Derived()
    caveats: tuple[str, ...] = ()
    """Sentences that every table over these data carries."""

    @pydantic.model_validator(mode="after")
    def _with_both_splits(self) -> Self:
        for split in ("train", "test"):
            if split not in self.split.words.values():
                raise ValueError(f"split.words has no word for {split}")
        return self

    def labels(self, split: str) -> LabelFiles:
        """The labels of a split."""
        return next((files for of, files in self.label_of.items() if of == split), self.label)

    def is_mirrored(self, files: Files) -> bool:
        """Whether left and right are exchanged in these files."""
        return self.mirrored if files.mirrored is None else files.mirrored


def read(path: Path) -> Description:
    """The description in a YAML file.

    Raises:
        UsageError: there is no such file, or it says something else; the message names the file and the key.
    """
    try:
        return Description.model_validate(read_yaml(path))
    except pydantic.ValidationError as error:
        raise UsageError(f"{path} does not describe a folder of images: {first_error(error)}.") from error
