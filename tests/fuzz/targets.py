"""Every kind of file that is damaged, by name."""

from __future__ import annotations

from typing import Dict, Type

from tests.fuzz.bundles import Bundles
from tests.fuzz.capsules import Capsules
from tests.fuzz.checkpoints import Checkpoints
from tests.fuzz.data_files import DataFiles
from tests.fuzz.loop import Target
from tests.fuzz.packed import PackedBundles
from tests.fuzz.recipes import Recipes
from tests.fuzz.tokenizers import Tokenizers

TARGETS: Dict[str, Type[Target]] = {
    target.name: target
    for target in (Bundles, PackedBundles, Capsules, Tokenizers, Checkpoints, DataFiles, Recipes)
}
