"""How good a policy is: its replies to the test sets, graded, with errors and pass@k."""
