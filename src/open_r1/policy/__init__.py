"""The Qwen2-VL that is trained: loads a checkpoint, and computes once what a group shares."""
