"""Neural networks in plain array code: what a GPU is asked to do when a model is trained or run.

Every function is written once and runs unchanged on NumPy and on CuPy; the module to call comes first,
as `xp`. They come in pairs of one shape:

    out, cache = name(xp, x, *parameters)
    grads      = name_backward(xp, grad, cache)

`cache` is whatever the way back needs, `grad` is the derivative of the loss with respect to `out`, and
`grads` are those with respect to `x` and the parameters, in the order in which the forward took them; what
has many parameters names their gradients in a dict instead. Parameters are one flat dict, name -> array,
with PyTorch's names and layouts, so that the same dict loads into the torch module of the same network.

Shapes in docstrings use B batch, T time (tokens), C channels or width, H heads, D head width, V vocabulary,
I in, O out. Read in this order:

functions.py      linear, cross-entropy, embedding
activations.py    ReLU, GELU, tanh, sigmoid, binary cross-entropy
normalisation.py  layer and batch normalisation
attention.py      softmax, attention, self-attention
convolution.py    convolutions as matrix products, transposed ones, max pool
recurrent.py      the LSTM
transformer.py    the block that gpt.py is made of; dit.py has its own, around the same attention and MLP
mlp.py  resnet.py  gpt.py  dcgan.py  dit.py    the networks: forward, backward, FLOPs
optimisers.py     SGD, AdamW
batches.py        what a step reads, and batches of few samples for a check
training.py       one training step, the kernel around it, and its proof against float64
generation.py     text, token by token, from a KV cache
weights.py        the weights among a work's inputs, on a device or in float64
workloads.py      what a preset measures of a network
modules/          the same networks as PyTorch's own users write them; only here is torch imported
"""
