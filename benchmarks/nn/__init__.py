"""Neural networks in plain array code: the operations that training and running a model consist of.

Every function is written once and runs unchanged on NumPy and on CuPy. Its first argument, `xp`, is the module to use.
Functions that are trained come in pairs, a forward and a backward pass:

    out, cache = name(xp, x, *parameters)
    grads      = name_backward(xp, grad, cache)

`cache` holds what the backward pass needs of the forward pass. `grad` is dL/dout, the derivative of the loss L with
respect to `out`, in the shape of `out`. `grads` are the derivatives with respect to `x` and the parameters, in the
order of the forward's arguments; functions with many parameters return theirs in a dict by name. In formulas, g is
`grad`.

Backward passes follow from the chain rule. Three rules recur:

    a product C = A B     dL/dA = dL/dC B^T and dL/dB = A^T dL/dC
    a value used twice    its gradient is the sum over its uses; so the gradient of a parameter is a sum over the batch
    a sum of two terms    passes its gradient unchanged to both

Backward passes compute in place where they own the array: a GPU then allocates less, and moves less memory.

Parameters are one flat dict, name -> array, with PyTorch's names and layouts. The same dict can be loaded into the
torch module of the same network.

Shapes in docstrings use B batch, T time (tokens), C channels or width, H heads, D head width, V vocabulary, I inputs,
O outputs. Read the files in this order:

functions.py      linear, cross-entropy, embedding
activations.py    ReLU, GELU, tanh, sigmoid, binary cross-entropy
normalisation.py  layer and batch normalisation
attention.py      softmax, attention, self-attention
convolution.py    convolutions and transposed convolutions as matrix products, max pooling
recurrent.py      the LSTM
transformer.py    the block of gpt.py; dit.py has its own block with the same attention and MLP
mlp.py  resnet.py  gpt.py  dcgan.py  dit.py    the networks: forward, backward, FLOPs (dit.py: forward only)
optimisers.py     SGD, AdamW
initial.py        random initial parameters
names.py          prefixes in the names of parameters
batches.py        the batch that a step reads, and batches of few distinct samples for the check
training.py       one training step, its kernel, and its check against float64
parts.py          training with the batch in parts, one for each of several processes, for its check
generation.py     text generation, token by token, with a KV cache
weights.py        the weights among the inputs of a work, on a device or in float64
workloads.py      what each preset measures of a network
tuned/            faster forms of the operations, for NumPy and for CuPy
modules/          the same networks as PyTorch users write them; torch is imported only there
"""
