"""The loop: EKIPLTrainer on TRL, teachers asked in time, checkpoints, stops, metrics."""
