"""Zoos: populations of trained networks, made from a seed, to be read by other networks.

Importing it makes the models of all zoos known, see :mod:`meta_train.zoo.architecture`.
"""

from meta_train.zoo import conv_net as conv_net
from meta_train.zoo import lstm_reader as lstm_reader
from meta_train.zoo import siren as siren
from meta_train.zoo import wired_net as wired_net
