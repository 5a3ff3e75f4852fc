"""The loop: takes prompts, asks policy and teachers, updates the policy; writes metrics and checkpoints."""
