"""CIFAR-100 with its 100 fine labels: Krizhevsky, 2009, as CIFAR-10."""

from __future__ import annotations

from fractions import Fraction

from harness.data.augmentation import Augmentation
from harness.data.datasets import Dataset, Source, register
from harness.data.download import torchvision_cifar
from harness.data.image_folder import image_folder
from harness.data.parquet import parquet
from harness.data.pickles import Batches, pickles
from harness.threat import ThreatModel

_CLASSES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
    butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch
    crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo
    keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain
    mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain
    plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
    skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone
    television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""

_PICKLES = pickles(
    Batches(
        folder="cifar-100-python",
        archive="cifar-100-python.tar.gz",
        train=("train",),
        test=("test",),
    )
)

# No package registry is known to carry it, and no digest of its pixels is pinned: torchvision's
# MD5 of the archive is what is checked.
CIFAR100 = register(
    Dataset(
        name="cifar100",
        classes=tuple(_CLASSES.split()),
        shape=(3, 32, 32),
        threat=ThreatModel("linf", Fraction(8, 255)),
        augmentation=Augmentation(pad=4, flip=True),
        description="60,000 colour photographs of 32 x 32 pixels in 100 classes.",
        layouts=(_PICKLES, parquet(), image_folder()),
        sources=(Source("torchvision's source", torchvision_cifar("CIFAR100", _PICKLES)),),
    )
)
