"""Axes named by the user, for parameters whose axes tracing cannot find."""

from collections.abc import Mapping, Sequence

from ngopt.errors import TraceError
from ngopt.graph.recorder import TraceRecorder
from ngopt.graph.terms import Term, size


def name_axes(
    recorder: TraceRecorder, parameters: Mapping[str, Sequence[Term]], axes: Mapping[str, str]
) -> dict[str, list[Term | None]]:
    """Turn what users say of the axes of parameters into terms, which replace what tracing finds.

    Args:
        recorder: the recorder of the trace.
        parameters: axes of each parameter, by name.
        axes: one word per axis, by name of the parameter. Equal words mean the same neurons,
            `word!` pinned ones, `1` no neurons, `_` what tracing finds.

    Returns:
        One term per axis of each named parameter; None for what tracing finds.

    Raises:
        TraceError: if a parameter is unknown, or the number of words or the sizes do not fit.
    """
    named: dict[str, Term] = {}
    result = {}
    for parameter, text in axes.items():
        if parameter not in parameters:
            known = ", ".join(f"`{name}`" for name in list(parameters)[:5])
            raise TraceError(
                f"axes= names the parameter `{parameter}`, which the model does not have. "
                f"Its parameters: {known}, ..."
            )
        words, sizes = text.split(), [size(term) for term in parameters[parameter]]
        if len(words) != len(sizes):
            raise TraceError(
                f"axes= gives {len(words)} words for `{parameter}` ({text!r}), which has shape "
                f"{tuple(sizes)}.\n  Give one word per axis, such as "
                f"{' '.join(['out', 'in', *('1' for _ in sizes)][: len(sizes)])!r}."
            )
        result[parameter] = [
            _term(recorder, named, parameter, word, n) for word, n in zip(words, sizes, strict=True)
        ]
    return result


def _term(
    recorder: TraceRecorder, named: dict[str, Term], parameter: str, word: str, n: int
) -> Term | None:
    if word == "_":
        return None
    if word == "1":
        return recorder.free(n)
    if word not in named:
        named[word] = recorder.fresh(n, "pinned by hand" if word.endswith("!") else "")
        recorder.see([named[word]])
    if size(named[word]) != n:
        raise TraceError(
            f"axes= calls an axis of `{parameter}` of size {n} {word!r}, but {word!r} has size "
            f"{size(named[word])} elsewhere.\n  Give axes of other neurons another word."
        )
    return named[word]
