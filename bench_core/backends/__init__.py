"""The array libraries; each implements the Protocol of base.py."""
