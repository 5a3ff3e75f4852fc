"""Before a run starts: takes the recipe and the machine, says whether it fits, what it costs and what is missing."""
