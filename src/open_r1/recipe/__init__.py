"""What a run is asked to do: merges YAML files and the command line into one recipe that keeps every rule."""
