"""The array libraries, each behind the Protocol of base.py."""
