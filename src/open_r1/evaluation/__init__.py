"""How good a policy is: takes a checkpoint and rows, keeps graded replies, hands on accuracy, errors and pass@k."""
