"""Before a run starts: does it fit, what will it cost, what is missing, on which nodes."""
