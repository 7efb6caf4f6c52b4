"""The same networks as PyTorch users write them, with nn.Module and autograd. Importing this package needs torch."""
