"""Zoos: populations of trained networks, made from a seed, to be read by other networks.

Importing it makes the models of all zoos known, see :mod:`meta_train.zoo.architecture`.
"""

from meta_train.zoo import networks as networks
from meta_train.zoo import siren as siren
