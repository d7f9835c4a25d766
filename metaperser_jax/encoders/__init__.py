"""Encoders: waveform to hidden states."""
