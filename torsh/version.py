"""The version of ToRSh."""
__version__ = "0.1.0"
