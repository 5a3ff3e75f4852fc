"""The Qwen2-VL that is trained: loading, the tiny stand-in, and what a group computes once."""
