"""The same networks as PyTorch's own users write them: nn.Module, autograd. Importing this needs torch."""
