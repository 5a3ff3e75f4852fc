"""The graders: take the text of a reply and the true answer, hand back a `Score`."""
