"""Perceptron, residual networks, GAN, diffusion transformer: gradients, FLOPs and outputs as torch has them."""

import numpy as np
import pytest

from benchmarks.nn.dcgan import Discriminator, Generator, Shape
from benchmarks.nn.dcgan import train_flops as gan_flops
from benchmarks.nn.dcgan import train_step as gan_step
from benchmarks.nn.dit import Dit, Schedule
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
DIT = Dit(layers=2, heads=2, width=8, patch=2, pixels=4)


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


def test_the_diffusion_transformer_agrees_with_torch_and_counts_its_flops(xp, rng):
    params = unsettled(DIT.initial(rng, "float64"), rng)
    theirs = DitModule(DIT).double()
    load_weights(theirs, tensors(params))
    images, labels = rng.standard_normal((3, 3, 4, 4)), np.array([0, 7, 2])
    waves = Schedule.ddim(5, DIT.width, "float64").waves
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        expected = theirs(torch.tensor(images), torch.tensor(waves[2]), torch.tensor(labels))
    given = [xp.asarray(array) for array in (images, waves[2], labels)]
    assert close(download(xp, DIT.predict_noise(xp, upload(xp, params), *given)), expected.numpy())
    linear = sum(f for op, f in counter.get_flop_counts()["Global"].items() if "mm" in str(op) and "bmm" not in str(op))
    attention = 3 * DIT.layers * 4 * (DIT.patches + 1) ** 2 * DIT.width
    assert linear + attention == DIT.flops(3)
    assert DIT.parameters() == sum(p.numel() for p in theirs.parameters())


def test_patches_come_back_as_the_image_that_was_cut(rng):
    images = rng.standard_normal((2, 3, 4, 4))
    patches = DIT.patchify(images)
    assert np.array_equal(DIT.unpatchify(patches), images)
    assert np.array_equal(patches[0, 1].reshape(3, 2, 2), images[0, :, :2, 2:])


def test_ddim_finds_the_image_when_the_noise_is_known():
    """With the true noise predicted at every step, the last step is the image itself: the schedule is right."""
    rng = np.random.Generator(np.random.PCG64(2))
    image, noise = rng.standard_normal((2, 8))
    signal = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[-1]
    x = np.sqrt(signal) * image + np.sqrt(1 - signal) * noise
    schedule = Schedule.ddim(7, 8, "float64")
    for keep, share in zip(schedule.keep, schedule.noise, strict=True):
        x = keep * x + share * noise
    assert np.allclose(x, image)
    assert schedule.waves.shape == (7, 8)
