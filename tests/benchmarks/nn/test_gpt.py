"""The decoder: its gradients, its KV cache, its optimiser, its FLOPs, and that it learns."""

import itertools
import math
import re
from itertools import pairwise

import numpy as np
import pytest

from benchmarks.nn.gpt import Gpt
from benchmarks.nn.optimisers import AdamW, Sgd
from benchmarks.nn.training import train_step
from tests.support import corpus
from tests.support.nn import array_module, close, difference, download, one_thread, upload  # noqa: F401 - fixtures

torch = pytest.importorskip("torch")
from torch._inductor import config as inductor  # noqa: E402
from torch._inductor.utils import run_and_get_code  # noqa: E402
from torch.nn import functional as F  # noqa: E402, N812
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from benchmarks.nn.modules import running  # noqa: E402
from benchmarks.nn.modules.generation import empty_kv_cache  # noqa: E402
from benchmarks.nn.modules.gpt import Attention, GptModule  # noqa: E402

TINY = Gpt(layers=2, heads=2, width=8, context=6, vocabulary=11)


@pytest.fixture
def rng():
    return np.random.Generator(np.random.PCG64(3))


def noisy(network, rng, dtype="float64"):
    """Weights with nothing special in them: no zero bias, no unit scale."""
    return {name: array + rng.standard_normal(array.shape) * 0.1 for name, array in network.initial(rng, dtype).items()}


def module(network, params, **options):
    made = GptModule(network, **options).double()
    made.load_state_dict({name: torch.tensor(array) for name, array in params.items()})
    return made


def some_text(network, rng, batch=3):
    x = rng.integers(network.vocabulary, size=(batch, network.context))
    return x, rng.integers(network.vocabulary, size=x.shape)


def loss_of(network, params, x, targets):
    logits, _ = network.forward(np, params, x)
    return F.cross_entropy(torch.tensor(logits).flatten(0, 1), torch.tensor(targets).flatten()).item()


@pytest.mark.parametrize("explicit", [False, True])
def test_logits_and_every_gradient_agree_with_autograd(explicit, xp, rng):
    params, (x, targets) = noisy(TINY, rng), some_text(TINY, rng)
    theirs = module(TINY, params, explicit=explicit)
    logits = theirs(torch.tensor(x))
    F.cross_entropy(logits.flatten(0, 1), torch.tensor(targets).flatten()).backward()
    step = train_step(xp, TINY, Sgd(xp, upload(xp, params), 0.1), xp.asarray(x), xp.asarray(targets))
    assert close(download(xp, step.logits), logits.detach().numpy())
    assert set(step.gradients) == set(params)
    for name, parameter in theirs.named_parameters():
        assert close(download(xp, step.gradients[name]), parameter.grad.numpy()), name


def test_every_gradient_agrees_with_central_differences(rng):
    params, (x, targets) = noisy(TINY, rng), some_text(TINY, rng)
    step = train_step(np, TINY, Sgd(np, params, 0.1), x, targets)
    for name, array in params.items():
        direction = rng.standard_normal(array.shape)
        slope = difference(lambda arrays: loss_of(TINY, arrays, x, targets), params, name, direction)
        assert close(slope, (step.gradients[name] * direction).sum(), 1e-7), name


def test_ten_adam_steps_follow_torch_to_1e_10(xp, rng):
    params, (x, targets) = noisy(TINY, rng), some_text(TINY, rng)
    theirs = module(TINY, params)
    adam = torch.optim.AdamW(theirs.parameters(), lr=1e-2)
    ours = AdamW(xp, upload(xp, params), rate=1e-2)
    for _ in range(10):
        adam.zero_grad()
        loss = F.cross_entropy(theirs(torch.tensor(x)).flatten(0, 1), torch.tensor(targets).flatten())
        loss.backward()
        adam.step()
        step = train_step(xp, TINY, ours, xp.asarray(x), xp.asarray(targets))
        assert abs(float(download(xp, step.loss)) - loss.item()) < 1e-10 * loss.item()


def test_training_after_a_reset_repeats_its_first_losses(rng):
    params, (x, targets) = noisy(TINY, rng), some_text(TINY, rng)
    ours = AdamW(np, params, rate=1e-2)
    first = [float(train_step(np, TINY, ours, x, targets).loss) for _ in range(3)]
    ours.reset()
    assert [float(train_step(np, TINY, ours, x, targets).loss) for _ in range(3)] == first
    assert first[2] < first[0]


def test_token_by_token_gives_what_the_whole_forward_gives(xp, rng):
    """The KV cache changes nothing: prompt at once and then one by one, against all at once."""
    params, (x, _) = noisy(TINY, rng), some_text(TINY, rng)
    whole, _ = TINY.forward(np, params, x)
    device = upload(xp, params)
    kv_cache = TINY.kv_cache(xp, len(x), TINY.context, "float64")
    steps = [TINY.extend(xp, device, kv_cache, xp.asarray(x[:, :3]), 0)]
    steps += [TINY.extend(xp, device, kv_cache, xp.asarray(x[:, at : at + 1]), at) for at in range(3, TINY.context)]
    for at, logits in enumerate(steps, start=2):
        assert close(download(xp, logits), whole[:, at]), at


def test_a_cache_may_also_be_extended_by_several_tokens_at_once(rng):
    params, (x, _) = noisy(TINY, rng), some_text(TINY, rng)
    kv_cache = TINY.kv_cache(np, len(x), TINY.context, "float64")
    TINY.extend(np, params, kv_cache, x[:, :2], 0)
    assert close(TINY.extend(np, params, kv_cache, x[:, 2:], 2), TINY.forward(np, params, x)[0][:, -1])


def test_torch_decodes_alike_with_a_growing_and_with_a_static_cache(rng):
    params, (x, _) = noisy(TINY, rng), some_text(TINY, rng)
    whole, _ = TINY.forward(np, params, x)
    theirs, ids = module(TINY, params), torch.tensor(x)
    memories = [empty_kv_cache(TINY, dict(theirs.named_parameters()), len(x), TINY.context, "ieee") for _ in range(2)]
    for tensor in itertools.chain(*memories[1]):
        tensor.zero_()
    with torch.inference_mode():
        for kv_cache in memories:
            theirs.extend(kv_cache, ids[:, :3], 0)
        for at in range(3, TINY.context):
            token = ids[:, at : at + 1]
            assert close(theirs.extend(memories[0], token, at).numpy(), whole[:, at])
            assert close(theirs.extend_static(memories[1], token, torch.tensor([at])).numpy(), whole[:, at])


def test_a_compiled_step_writes_into_the_cache_where_it_lies_and_copies_none_of_it():
    """All that its program allocates is smaller than the keys of one layer."""
    try:
        running.require_compiler(torch.device("cpu"))
    except running.Unsupported as error:
        pytest.skip(str(error))
    attention = Attention(8, 2, causal=True).eval()
    keys, values = (torch.zeros(3, 2, 16, 4) for _ in range(2))
    torch.compiler.reset()
    torch.compiler.set_stance("default")
    # Where arrays lie depends on neither vectors nor compiled headers, and both take half of the time.
    plain = inductor.patch({"cpp_cache_precompile_headers": False, "cpp.simdlen": 1})
    step = torch.compile(lambda x, at: attention.extend_static(x, (keys, values), at), fullgraph=True)
    with plain, torch.inference_mode():
        _, (program,) = run_and_get_code(step, torch.randn(3, 1, 8), torch.tensor([4]))
    shapes = re.findall(r"empty_strided_cpu\(\(([^)]*)\)", program)
    sizes = [math.prod(int(number) for number in shape.split(",") if number.strip()) for shape in shapes]
    assert 3 * 1 * 3 * 8 in sizes, "the projection to queries, keys and values"
    assert max(sizes) < keys.numel()
    assert keys[:, :, 4].all()
    assert keys.count_nonzero() == keys.numel() / 16


def test_flops_are_exactly_what_torch_counts_with_explicit_attention(rng):
    network, batch = Gpt(layers=3, heads=2, width=16, context=12, vocabulary=29), 5
    theirs = GptModule(network, explicit=True)
    x, targets = (torch.tensor(ids) for ids in some_text(network, rng, batch))
    with FlopCounterMode(display=False) as forward:
        logits = theirs(x)
    with FlopCounterMode(display=False) as backward:
        F.cross_entropy(logits.flatten(0, 1), targets.flatten()).backward()
    assert forward.get_total_flops() == batch * network.forward_flops(network.context)
    assert forward.get_total_flops() + backward.get_total_flops() == batch * network.train_flops(network.context)


def test_causal_flops_count_each_pair_of_tokens_once():
    pairs = sum(at + 1 for at in range(TINY.context))
    full, causal = (TINY.forward_flops(TINY.context, causal=causal) for causal in (False, True))
    assert full - causal == TINY.layers * 4 * TINY.width * (TINY.context**2 - pairs)


def test_decoding_counts_the_flops_of_each_step(rng):
    """A step's FLOPs as torch counts them for explicit attention of one query to all keys so far."""
    start = 4
    theirs, explicit = GptModule(TINY), 4 * TINY.width * (start + 1) * TINY.layers
    kv_cache = empty_kv_cache(TINY, dict(theirs.named_parameters()), 1, TINY.context, "ieee")
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        theirs.extend(kv_cache, torch.zeros(1, 1, dtype=torch.int64), start)
    operators = counter.get_flop_counts()["Global"]
    products = sum(flops for operator, flops in operators.items() if "mm" in str(operator))
    products -= operators.get(torch.ops.aten.bmm, 0)  # attention, should torch have spelt it out
    assert products + explicit == TINY.extend_flops(1, start)


def test_decoding_reads_every_weight_and_every_remembered_key():
    params = TINY.initial(np.random.Generator(np.random.PCG64(0)), "float32")
    assert sum(array.size for array in params.values()) == TINY.parameters()
    unused_positions = (TINY.context - 1) * TINY.width
    kv_cache = TINY.kv_cache(np, 3, 5, "float32").nbytes
    assert TINY.extend_bytes(3, 4, 4) == 4 * (TINY.parameters() - unused_positions) + kv_cache


LEARNER = Gpt(layers=2, heads=2, width=48, context=24, vocabulary=128)


def train_on_corpus(step, rng, steps=260):
    """Return the mean loss of the last steps and the corpus's unigram entropy."""
    ids = corpus.encode(corpus.text(rng, 20_000))
    losses = [float(step(*corpus.batch(rng, ids, 16, LEARNER.context))) for _ in range(steps)]
    return np.mean(losses[-20:]), corpus.unigram_entropy(ids)


def continued(params, prompt, count):
    """Continue a prompt greedily, in NumPy."""
    ids = corpus.encode(prompt)[None]
    kv_cache = LEARNER.kv_cache(np, 1, LEARNER.context, np.float32)
    logits, start = LEARNER.extend(np, params, kv_cache, ids, 0), ids.shape[1]
    said = [logits.argmax(axis=-1)]
    for at in range(start, start + count - 1):
        said.append(LEARNER.extend(np, params, kv_cache, said[-1][:, None], at).argmax(axis=-1))
    return corpus.decode(np.concatenate(said))


def check_that_it_learnt(loss, entropy, params):
    assert loss < 0.6 * entropy, f"{loss} nats a token, where letter frequencies alone give {entropy}"
    assert continued(params, ";2>3>", 4) == "4>5;"
    assert continued(params, ";say owl:", 5) == " owl;"


@pytest.mark.timeout(120)
def test_array_code_learns_a_small_language_and_speaks_it(rng):
    """The loss falls below the unigram entropy, and what it says next follows the language's rules.

    On the other array module its steps are the same: those that follow torch to 1e-10.
    """
    ours = AdamW(np, upload(np, LEARNER.initial(rng, "float32")), rate=4e-3)
    loss, entropy = train_on_corpus(lambda x, targets: train_step(np, LEARNER, ours, x, targets).loss, rng)
    check_that_it_learnt(loss, entropy, ours.params)


@pytest.mark.timeout(120)
def test_torch_learns_the_same_language(rng):
    from benchmarks.nn.modules.training import Trainer, adamw

    weights = {name: torch.tensor(array) for name, array in LEARNER.initial(rng, "float32").items()}
    trainer = Trainer(GptModule(LEARNER), weights, adamw(4e-3, "default"), "ieee")
    loss, entropy = train_on_corpus(lambda x, y: trainer.step(torch.tensor(x), torch.tensor(y)).loss, rng)
    check_that_it_learnt(loss, entropy, {name: p.detach().numpy() for name, p in trainer.module.named_parameters()})


def test_the_corpus_keeps_its_rules(rng):
    """Every sentence is a true sum, a count upwards or an echo; the same seed gives the same text."""
    words = corpus.text(rng, 2000)
    assert corpus.text(np.random.Generator(np.random.PCG64(3)), 2000) == words
    assert corpus.decode(corpus.encode(words)) == words
    kinds = set()
    for sentence in words.removesuffix(";").split(";"):
        if "=" in sentence:
            left, total = sentence.split("=")
            assert sum(map(int, left.split("+"))) == int(total)
            kinds.add("sum")
        elif ">" in sentence:
            digits = [int(digit) for digit in sentence.split(">")]
            assert all((a + 1) % 10 == b for a, b in pairwise(digits))
            kinds.add("count")
        else:
            assert sentence.removeprefix("say ").split(": ") == [sentence[-3:]] * 2
            kinds.add("echo")
    assert kinds == {"sum", "count", "echo"}
