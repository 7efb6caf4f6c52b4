"""Neural networks in plain array code: what a GPU is asked to do when a model is trained or run.

Every function is written once and runs unchanged on NumPy and on CuPy; the module to call comes first,
as `xp`. They come in pairs of one shape:

    out, cache = name(xp, x, *parameters)
    grads      = name_backward(xp, grad, cache)

`cache` is whatever the way back needs, `grad` is the derivative of the loss with respect to `out`, and
`grads` are those with respect to `x` and the parameters, in the order in which the forward took them.
Shapes in docstrings use B batch, T time (tokens), C channels or width, H heads, D head width, V vocabulary,
I in, O out. Parameters are one flat dict, name -> array, with PyTorch's names and layouts, so that the
same dict loads into the torch module of the same network (`modules/`).

functions.py     linear, activations, normalisations, softmax, cross-entropy, embedding
optimisers.py    SGD, AdamW
training.py      one training step, and its proof against float64
"""
