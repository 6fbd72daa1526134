"""Tasks for meta-training, one family per file. Importing this registers those of ngopt."""

from meta_train.tasks import autoencoder as autoencoder
from meta_train.tasks import convnet as convnet
from meta_train.tasks import flow as flow
from meta_train.tasks import gnn as gnn
from meta_train.tasks import gpt_lm as gpt_lm
from meta_train.tasks import kan as kan
from meta_train.tasks import learn2learn_tasks as learn2learn_tasks
from meta_train.tasks import mixer as mixer
from meta_train.tasks import mlp as mlp
from meta_train.tasks import moe as moe
from meta_train.tasks import quadratic as quadratic
from meta_train.tasks import relational as relational
from meta_train.tasks import residual as residual
from meta_train.tasks import rnn_lm as rnn_lm
from meta_train.tasks import rosenbrock as rosenbrock
from meta_train.tasks import siren as siren
from meta_train.tasks import transformer_lm as transformer_lm
from meta_train.tasks import unet as unet
from meta_train.tasks import vae as vae
from meta_train.tasks import vit as vit
