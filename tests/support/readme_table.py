"""The rows of the table in README.md: the label of each, and the work and metric that it shows."""

TABLE = (
    # label, workload, size, dtype, precision, metric
    ("matrix product 4096, float64", "matmul", "4096", "float64", "ieee", "flop_rate"),
    ("matrix product 4096, float32", "matmul", "4096", "float32", "ieee", "flop_rate"),
    ("matrix product 8192, bfloat16", "matmul", "8192", "bfloat16", "ieee", "flop_rate"),
    ("copy, 256 MiB an array, float64", "copy", "256MiB", "float64", "ieee", "bandwidth"),
    ("triad, 256 MiB an array, float64", "triad", "256MiB", "float64", "ieee", "bandwidth"),
    (
        "train an MLP (1024-4096-4096-4096-1000, batch 512)",
        "mlp_train",
        "1024x4096x4096x4096x1000-b512",
        "float32",
        "ieee",
        "sample_rate",
    ),
    ("train ResNet-18 (32 x 32, batch 128)", "cnn_train", "resnet18-32x32-b128", "float32", "ieee", "sample_rate"),
    (
        "train a GPT (6 layers, width 384, 256 tokens, batch 64)",
        "gpt_train",
        "6L6H384-t256-b64",
        "float32",
        "ieee",
        "token_rate",
    ),
    (
        "generate text (127 tokens after the first, prompt of 128 not in it, batch 64)",
        "gpt_decode",
        "6L6H384-p128n128-b64",
        "float32",
        "ieee",
        "token_rate",
    ),
    ("train a GAN (64 x 64, batch 128)", "gan_train", "64x64-w64-b128", "float32", "ieee", "sample_rate"),
    (
        "generate images by diffusion (DiT-S/2, 20 steps, batch 4)",
        "diffusion_sample",
        "12L6H384-32x32-b4",
        "float32",
        "ieee",
        "sample_rate",
    ),
)
