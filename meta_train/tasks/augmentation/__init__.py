"""Tasks made harder or different: wrappers of a task that are tasks, and families of them."""

from meta_train.tasks.augmentation.augmented import VELO, Augmentation, Augmented
from meta_train.tasks.augmentation.less_data import with_batch, with_few_examples
from meta_train.tasks.augmentation.noisy_images import NoisyImages
from meta_train.tasks.augmentation.noisy_labels import NoisyLabels
from meta_train.tasks.augmentation.rescaled import Rescaled
from meta_train.tasks.augmentation.wrapped import Wrapped

__all__ = [
    "VELO",
    "Augmentation",
    "Augmented",
    "NoisyImages",
    "NoisyLabels",
    "Rescaled",
    "Wrapped",
    "with_batch",
    "with_few_examples",
]
