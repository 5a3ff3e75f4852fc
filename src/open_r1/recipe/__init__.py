"""What a run is told: settings, how recipes merge, and every rule they must keep."""
