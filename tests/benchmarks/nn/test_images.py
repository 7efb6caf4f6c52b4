"""Perceptron, residual networks, GAN, diffusion transformer: gradients, FLOPs and outputs as torch has them."""

import math

import numpy as np
import pytest

from bench_core.records import Preset
from benchmarks.bench_diffusion import PRESETS as DIFFUSION
from benchmarks.nn.dcgan import Discriminator, Generator, Shape
from benchmarks.nn.dcgan import train_flops as gan_flops
from benchmarks.nn.dcgan import train_step as gan_step
from benchmarks.nn.dit import Dit, Schedule, position_table
from benchmarks.nn.mlp import Mlp
from benchmarks.nn.names import named, scoped
from benchmarks.nn.optimisers import AdamW, Sgd
from benchmarks.nn.resnet import ResNet
from benchmarks.nn.training import train_step
from tests.support.nn import array_module, close, difference, download, one_thread, upload  # noqa: F401 - fixtures

torch = pytest.importorskip("torch")
from torch.nn import functional as F  # noqa: E402, N812
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from benchmarks.nn.modules.dcgan import GanTrainer, GeneratorModule  # noqa: E402
from benchmarks.nn.modules.dit import DitModule  # noqa: E402
from benchmarks.nn.modules.mlp import MlpModule  # noqa: E402
from benchmarks.nn.modules.resnet import ResNetModule  # noqa: E402
from benchmarks.nn.modules.running import load_weights  # noqa: E402

# Every shape of block: with and without shortcut, bottleneck, the large stem with its pool.
CLASSIFIERS = {
    "mlp": (Mlp((6, 5, 4, 3)), MlpModule, (4, 6)),
    "resnet": (ResNet(blocks=(2, 1), width=4, pixels=8, classes=3), ResNetModule, (4, 3, 8, 8)),
    "bottleneck": (
        ResNet(blocks=(1, 2), width=2, pixels=64, classes=3, bottleneck=True),
        ResNetModule,
        (2, 3, 64, 64),
    ),
}
SHAPE = Shape(latent=5, width=3, pixels=16)
DIT = Dit(layers=2, heads=2, width=8, patch=2, pixels=4, channels=3, classes=10)
# The preset that measures it, parameters, GMAC of one image. Both are those of DiT_S_2() and DiT_B_2() in
# facebookresearch/DiT, models.py at ed81ce2, as torch counts them. arXiv:2212.09748 calls the GMAC Gflops.
OFFICIAL = {"S/2": (Preset.STANDARD, 32_963_360, 6.06), "B/2": (Preset.FULL, 130_512_416, 23.01)}


@pytest.fixture
def rng():
    return np.random.Generator(np.random.PCG64(5))


@pytest.fixture(params=CLASSIFIERS)
def classifier(request, rng):
    """A network, the torch module with the same float64 weights, those weights, inputs and targets."""
    network, module, shape = CLASSIFIERS[request.param]
    params = unsettled(network.initial(rng, "float64"), rng)
    theirs = module(network).double()
    load_weights(theirs, tensors(params))
    return network, theirs, params, rng.standard_normal(shape), rng.integers(3, size=shape[0])


def unsettled(params, rng):
    """Move every weight: none stays zero or one."""
    return {n: a if ".running_" in n else a + 0.1 * rng.standard_normal(a.shape) for n, a in params.items()}


def tensors(arrays):
    return {name: torch.tensor(array) for name, array in arrays.items()}


def test_logits_gradients_and_running_averages_agree_with_torch(classifier, xp):
    network, theirs, params, x, targets = classifier
    logits = theirs(torch.tensor(x))
    F.cross_entropy(logits, torch.tensor(targets)).backward()
    ours = Sgd(xp, upload(xp, params), 0.0)
    step = train_step(xp, network, ours, xp.asarray(x), xp.asarray(targets))
    assert close(download(xp, step.logits), logits.detach().numpy())
    for name, parameter in theirs.named_parameters():
        assert close(download(xp, step.gradients[name]), parameter.grad.numpy(), 1e-9), name
    for name, buffer in theirs.named_buffers():
        if "running" in name:
            assert close(download(xp, ours.params[name]), buffer.numpy()), name


def test_every_gradient_agrees_with_central_differences(classifier):
    network, _, params, x, targets = classifier
    step = train_step(np, network, Sgd(np, params, 0.0), x, targets)

    def loss(arrays):
        return train_step(np, network, Sgd(np, arrays, 0.0), x, targets).loss

    for name in step.gradients:
        direction = np.random.Generator(np.random.PCG64(1)).standard_normal(params[name].shape)
        slope = difference(loss, params, name, direction, step=1e-7)
        assert close(slope, (step.gradients[name] * direction).sum(), 1e-4), name


def test_a_trained_network_agrees_with_torch_in_inference_mode(classifier, xp):
    network, theirs, params, x, _ = classifier
    if not hasattr(network, "infer"):
        pytest.skip("it runs as it trains")
    with torch.inference_mode():
        expected = theirs.eval()(torch.tensor(x)).numpy()
    assert close(download(xp, network.infer(xp, upload(xp, params), xp.asarray(x))), expected)


def test_flops_and_parameters_are_exactly_what_torch_counts(classifier):
    network, theirs, params, x, targets = classifier
    with FlopCounterMode(display=False) as forward:
        logits = theirs(torch.tensor(x))
    with FlopCounterMode(display=False) as backward:
        F.cross_entropy(logits, torch.tensor(targets)).backward()
    assert forward.get_total_flops() == len(x) * network.forward_flops()
    assert forward.get_total_flops() + backward.get_total_flops() == len(x) * network.train_flops()
    assert network.parameters() == sum(parameter.numel() for parameter in theirs.parameters())
    assert set(params) == {name for name in theirs.state_dict() if "num_batches" not in name}


def test_ten_sgd_steps_follow_torch_to_1e_10(classifier):
    network, theirs, params, x, targets = classifier
    sgd, ours = torch.optim.SGD(theirs.parameters(), lr=0.01), Sgd(np, params, 0.01)
    for _ in range(10):
        sgd.zero_grad()
        loss = F.cross_entropy(theirs(torch.tensor(x)), torch.tensor(targets))
        loss.backward()
        sgd.step()
        step = train_step(np, network, ours, x, targets)
        assert abs(step.loss - loss.item()) < 1e-10 * loss.item()


@pytest.fixture
def gan(rng):
    weights = named("generator", Generator(SHAPE).initial(rng, "float64"))
    weights |= named("discriminator", Discriminator(SHAPE).initial(rng, "float64"))
    return weights, rng.standard_normal((4, SHAPE.latent)), np.tanh(rng.standard_normal((4, 3, 16, 16)))


def adam(parameters):
    return torch.optim.Adam(parameters, lr=1e-3, betas=(0.5, 0.999))


def test_both_networks_of_a_gan_follow_torch_for_ten_steps(gan, xp):
    """Losses, images and (at the first step) every gradient of generator and discriminator."""
    weights, noise, images = gan
    theirs = GanTrainer(SHAPE, tensors(weights), adam, "ieee")
    device = upload(xp, weights)
    ours = [AdamW(xp, scoped(device, n), 1e-3, decay=0, beta1=0.5) for n in ("generator", "discriminator")]
    for i in range(10):
        expected = theirs.step(torch.tensor(noise), torch.tensor(images))
        step = gan_step(xp, SHAPE, tuple(ours), xp.asarray(noise), xp.asarray(images))
        assert close(download(xp, step.loss), expected.loss.numpy(), 1e-9)
        assert close(download(xp, step.logits), expected.logits.numpy(), 1e-8)
        if i == 0:
            assert set(step.gradients) == set(expected.gradients)
            for name, gradient in step.gradients.items():
                assert close(download(xp, gradient), expected.gradients[name].numpy()), name


def test_the_flops_of_a_gan_are_exactly_what_torch_counts(gan):
    weights, noise, images = gan
    theirs = GanTrainer(SHAPE, tensors(weights), adam, "ieee")
    with FlopCounterMode(display=False) as counter:
        theirs.step(torch.tensor(noise), torch.tensor(images))
    assert counter.get_total_flops() == len(noise) * gan_flops(SHAPE)
    assert Generator(SHAPE).parameters() == sum(p.numel() for p in theirs.generator.parameters())
    assert Discriminator(SHAPE).parameters() == sum(p.numel() for p in theirs.discriminator.parameters())


def test_a_trained_generator_agrees_with_torch(gan, xp):
    weights, noise, _ = gan
    theirs = GeneratorModule(SHAPE).double().eval()
    load_weights(theirs, scoped(tensors(weights), "generator"))
    ours = Generator(SHAPE).generate(xp, upload(xp, scoped(weights, "generator")), xp.asarray(noise))
    with torch.inference_mode():
        assert close(download(xp, ours).swapaxes(0, 1), theirs(torch.tensor(noise)).numpy())


@pytest.mark.parametrize("network", [DIT, DIFFUSION[Preset.SMOKE][0]], ids=["tiny", "smoke"])
def test_the_diffusion_transformer_agrees_with_torch_and_counts_its_flops(network, xp, rng):
    """To 1e-10 in float64, noise and sigma; also for the null class, whose row is the table's last."""
    params = unsettled(network.initial(rng, "float64"), rng)
    theirs = DitModule(network).double()
    load_weights(theirs, tensors(params))
    latents = rng.standard_normal((3, network.channels, network.pixels, network.pixels))
    waves, labels = Schedule.ddim(5, "float64").waves, np.array([0, 7, network.classes])
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        expected = theirs(torch.tensor(latents), torch.tensor(waves[2]), torch.tensor(labels))
    assert expected.shape == (3, 2 * network.channels, network.pixels, network.pixels)
    given = [xp.asarray(array) for array in (latents, waves[2], labels)]
    assert close(download(xp, network.predict(xp, upload(xp, params), *given)), expected.numpy())
    linear = sum(f for op, f in counter.get_flop_counts()["Global"].items() if "mm" in str(op) and "bmm" not in str(op))
    attention = 3 * network.layers * 4 * network.patches**2 * network.width
    assert linear + attention == network.flops(3)
    assert network.parameters() == sum(p.numel() for p in theirs.parameters())


@pytest.mark.parametrize("size", OFFICIAL)
def test_dit_s2_and_b2_have_the_parameters_and_macs_of_the_original(size):
    preset, parameters, gmac = OFFICIAL[size]
    network, _ = DIFFUSION[preset]
    with torch.device("meta"):
        theirs = DitModule(network)
    assert network.parameters() == sum(p.numel() for p in theirs.parameters()) == parameters
    assert round(network.flops(1) / 2e9, 2) == gmac


def test_positions_are_waves_of_the_column_and_then_of_the_row():
    """In the order of the patches: row by row."""
    side, width = 3, 16
    table = position_table(side, width)
    for patch in range(side * side):
        row, column = divmod(patch, side)
        for at, place in enumerate((column, row)):
            for i in range(width // 4):
                angle = place / 10_000 ** (4 * i / width)
                first = at * width // 2 + i
                assert math.isclose(table[patch, first], math.sin(angle), abs_tol=1e-12)
                assert math.isclose(table[patch, first + width // 4], math.cos(angle), abs_tol=1e-12)


def test_initial_positions_are_those_and_no_other_weight_is_drawn_as_zero(rng):
    params = DIT.initial(rng, "float64")
    assert np.array_equal(params.pop("positions"), position_table(DIT.side, DIT.width))
    assert [name for name, array in params.items() if (array == 0).any()] == []


def test_every_gate_and_every_modulation_of_a_network_shows_in_its_prediction(rng):
    """What a fresh model has as zero: without any one of them noise and sigma would be off by more than a percent."""
    network, _ = DIFFUSION[Preset.QUICK]
    params = network.initial(rng, "float64")
    latents = rng.standard_normal((1, network.channels, network.pixels, network.pixels))
    given = latents, Schedule.ddim(5, "float64").waves[1], np.array([3])
    whole = network.predict(np, params, *given)
    assert all(0.5 < half.std() < 2 for half in np.split(whole, 2, axis=1))
    for name in (name for name in params if name.endswith("modulation.1.weight")):
        bias = name.replace("weight", "bias")
        for part in range(len(params[name]) // network.width):
            rows = slice(part * network.width, (part + 1) * network.width)
            weight, offset = params[name].copy(), params[bias].copy()
            weight[rows], offset[rows] = 0, 0
            without = network.predict(np, params | {name: weight, bias: offset}, *given)
            for half in np.split(without - whole, 2, axis=1):
                assert half.std() > 0.01, (name, part)


def test_patches_are_cut_channel_by_channel_row_by_row(rng):
    latents = rng.standard_normal((2, 3, 4, 4))
    patches = DIT.patchify(latents)
    assert patches.shape == (2, 4, 12)
    for patch in range(4):
        row, column = divmod(patch, 2)
        cut = latents[1, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        assert np.array_equal(patches[1, patch], cut.reshape(-1))


def test_predicted_patches_go_back_to_their_place_channels_last(rng):
    patches = rng.standard_normal((2, 4, 24))
    predicted = DIT.unpatchify(patches)
    assert predicted.shape == (2, 6, 4, 4)
    for patch in range(4):
        row, column = divmod(patch, 2)
        place = predicted[1, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        assert np.array_equal(place, patches[1, patch].reshape(2, 2, 6).transpose(2, 0, 1))


def test_ddim_finds_the_image_when_the_noise_is_known():
    """With the true noise predicted at every step, the last step is the image itself: the schedule is right."""
    rng = np.random.Generator(np.random.PCG64(2))
    image, noise = rng.standard_normal((2, 8))
    signal = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[-1]
    x = np.sqrt(signal) * image + np.sqrt(1 - signal) * noise
    schedule = Schedule.ddim(7, "float64")
    for keep, share in zip(schedule.keep, schedule.noise, strict=True):
        x = keep * x + share * noise
    assert np.allclose(x, image)


def test_the_waves_of_a_step_are_cosines_and_then_sines_of_its_time():
    """128 of each, from one a step down to one in 10000 steps, of the last trained step first."""
    waves = Schedule.ddim(7, "float64").waves
    assert waves.shape == (7, 256)
    assert math.isclose(waves[0, 3], math.cos(999 / 10_000 ** (3 / 128)), abs_tol=1e-9)
    assert math.isclose(waves[0, 131], math.sin(999 / 10_000 ** (3 / 128)), abs_tol=1e-9)
    assert np.array_equal(waves[-1], [1.0] * 128 + [0.0] * 128)
