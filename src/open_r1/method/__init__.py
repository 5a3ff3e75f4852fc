"""The paper in pure functions: candidates, selection, advantages, groups, importance weights."""
