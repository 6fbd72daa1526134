"""Zoos: populations of trained networks, made from a seed, to be read by other networks.

Importing it makes every model of a zoo known, see :mod:`meta_train.zoo.architecture`.
"""

import meta_train.zoo.lstm_reader
import meta_train.zoo.siren
