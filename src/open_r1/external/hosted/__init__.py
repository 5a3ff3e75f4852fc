"""Real external models: what goes over the wire, its price, its limits, its failures."""
