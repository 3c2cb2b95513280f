"""All of ``torch.nn.functional``, one family per file; :mod:`torsh.nn.functional` gives them their public home."""
