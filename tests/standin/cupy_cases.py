"""What CuPy refuses, and what it computes as NumPy does: asked of the stand-in here, and of CuPy on a GPU."""

import numpy as np
import pytest

HOST = np.arange(6, dtype=np.float32).reshape(2, 3)
MISTAKES = (
    pytest.param(lambda cp, a: np.asarray(a), id="np.asarray"),
    pytest.param(lambda cp, a: np.linalg.norm(a), id="not offered: np.linalg.norm"),
    pytest.param(lambda cp, a: a + HOST, id="device + host"),
    pytest.param(lambda cp, a: HOST + a, id="host + device"),
    pytest.param(lambda cp, a: cp.matmul(a, HOST.T), id="matmul with host"),
    pytest.param(lambda cp, a: cp.concatenate([a, HOST]), id="host in a list"),
    pytest.param(lambda cp, a: cp.add(a, a, out=HOST.copy()), id="out on the host"),
    pytest.param(lambda cp, a: a.__setitem__(0, HOST[0]), id="assign host"),
    pytest.param(lambda cp, a: cp.add(a, a, where=a > 1), id="ufunc where"),
    pytest.param(lambda cp, a: cp.sum(a, initial=0.0), id="sum initial"),
    pytest.param(lambda cp, a: cp.einsum("ij->i", a, out=a[:, 0]), id="einsum out"),
    pytest.param(lambda cp, a: cp.multiply.at(a, 0, 2), id="ufunc at"),
    pytest.param(lambda cp, a: cp.random.rand(3), id="not offered: random"),
    pytest.param(lambda cp, a: cp.array(["a"]), id="text"),
    pytest.param(lambda cp, a: a.astype("V1"), id="not offered: astype of plain bytes"),
    pytest.param(lambda cp, a: cp.empty(3, "V1"), id="not offered: empty of plain bytes"),
    pytest.param(lambda cp, a: a.astype(np.longdouble), id="long double"),
)
COMPUTATIONS = (
    pytest.param(lambda xp, a: a @ a.T, id="matmul"),
    pytest.param(lambda xp, a: 2 - a / 3, id="scalars on both sides"),
    pytest.param(lambda xp, a: xp.einsum("ij,kj->ik", a, a), id="einsum"),
    pytest.param(lambda xp, a: xp.exp(a - a.max(axis=1, keepdims=True)), id="softmax's first half"),
    pytest.param(lambda xp, a: xp.where(a > 2, xp.tanh(a), xp.log1p(a)), id="where"),
    pytest.param(lambda xp, a: xp.concatenate([a[:, 1:], a[::-1, :1]], axis=1), id="slices"),
    pytest.param(lambda xp, a: xp.take(a, xp.asarray([1, 1, 0]), axis=0), id="take"),
    pytest.param(lambda xp, a: a[xp.asarray([1, 0]), xp.asarray([2, 0])], id="index arrays"),
    pytest.param(lambda xp, a: a.reshape(3, 2).transpose(1, 0).astype("float16"), id="views"),
    pytest.param(lambda xp, a: xp.sqrt(a.var(axis=0) + 1e-5), id="variance"),
    pytest.param(lambda xp, a: a.sum(), id="zero dimensions"),
    pytest.param(lambda xp, a: np.exp(a), id="NumPy's name for it"),
)
