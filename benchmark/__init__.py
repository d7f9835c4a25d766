"""An evaluation harness for universal speech models."""
