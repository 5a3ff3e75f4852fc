"""Synthetic data of the three tasks, written in the Reason-RFT-CoT layout and read by the same loader as real data."""
