"""What the page of compatibility tells of, and the tests that each row of it is made of."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One row of the page.

    Args:
        section: of the page.
        name: what is tried.
        tests: modules of tests, each with a regular expression that the names of some begin with.
    """

    section: str
    name: str
    tests: tuple[tuple[str, str], ...]

    @property
    def key(self) -> str:
        """What the results of the row are kept under."""
        return f"{self.section}: {self.name}"


def _rows(section: str, **tests: str) -> tuple[Row, ...]:
    """Rows of a section.

    Args:
        section: its name.
        **tests: by name of the row, `module:pattern module:pattern`; without pattern, all tests.
    """
    return tuple(
        Row(section, name, tuple(_split(part) for part in text.split()))
        for name, text in tests.items()
    )


def _split(text: str) -> tuple[str, str]:
    module, _, pattern = text.partition(":")
    return f"tests.{module}", pattern


ROWS = (
    *_rows(
        "Trainers",
        **{
            "Lightning": "trainers.test_lightning",
            "Accelerate": "trainers.test_accelerate",
            "transformers.Trainer": "trainers.test_transformers",
            "plain loops, closures, groups": "optim.test_contract_step",
            "learning rate schedulers": "optim.test_contract_schedulers",
            "state_dict, copies, pickles": "optim.test_contract_state",
        },
    ),
    *_rows(
        "Scale-out",
        **{
            "DDP": "scale_out.test_scale_out:test_data",
            "a group of one process": "scale_out.test_one_process",
            "FSDP2": "scale_out.test_scale_out:test_(sharded|state)",
            "torch.distributed.checkpoint": "scale_out.test_scale_out:test_a_checkpoint"
            " optim.test_checkpoint:test_distributed",
            "ZeroRedundancyOptimizer": "scale_out.test_scale_out:test_zero",
        },
    ),
    *_rows(
        "Precision and compilation",
        **{
            "autocast": "optim.test_contract_precision:test_(half_precision_under|a_step_inside)",
            "GradScaler": "optim.test_contract_precision:test_grad_scaler",
            "bfloat16 to float64": "optim.test_contract_precision:test_(para|half_precision_s)",
            "compiled model": "optim.test_companions:test_a_compiled",
            "compiled step": "optim.test_contract_compile",
            "CUDA graphs": "optim.test_cuda_graphs",
            "channels_last and strides": "optim.test_contract_tensors:test_(channels|parameters)",
            "odd shapes and tied weights": "optim.test_contract_tensors:test_(odd|tied)",
            "checkpointed activations": "optim.test_companions:test_checkpointed",
            "EMA and SWA": "optim.test_companions:test_(an_averaged|swa)",
            "torch.func, higher": "optim.test_companions:test_gradients optim.test_differentiable",
        },
    ),
    *_rows(
        "Suites of others",
        **{
            "PyTorch's checks of optimizers": "optim.test_optimizer_info",
            "small problems of optax and pytorch_optimizer": "optim.test_contract_convergence",
        },
    ),
    *_rows(
        "Faults",
        **{
            "spikes of the gradient": "optim.test_faults:test_a_spike optim.test_spikes",
            "NaN and infinite gradients": "optim.test_faults:test_steps_with_bad",
            "zero, constant, vanishing gradients": "optim.test_faults:test_(gradients|a_constant)",
            "loss of another scale": "optim.test_faults:test_(the_scale|a_tiny)",
            "layers freeze and thaw": "optim.test_faults:test_layers",
            "another precision on the way": "optim.test_faults:test_a_model_may",
            "another device on the way": "optim.test_changing_parameters:test_parameters_may",
            "model changed after tracing": "optim.test_changing_parameters:test_a_(layer|mod|par)",
            "no elements, more than 2^31": "optim.test_changing_parameters:test_(tensors|meta)",
            "many tiny tensors": "optim.test_changing_parameters:test_(hundreds|ten_thousand)",
            "100,000 steps": "optim.test_long_training",
            "random sequences of calls": "optim.test_fuzz",
        },
    ),
    *_rows(
        "Files",
        **{
            "damaged and lying rules": "rules.test_damaged_files rules.test_library",
            "damaged cards": "rules.test_cards",
            "damaged states of the optimizer": "optim.test_damaged_states optim.test_checkpoint",
            "checkpoints of meta-training, killed writers": "meta_train.test_checkpoint",
            "data sets": "meta_train.data.test_cifar10 meta_train.data.test_idx",
        },
    ),
)
"""All rows, in order."""
