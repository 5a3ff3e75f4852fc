"""The paper in pure functions: takes scored candidates, hands back which are kept and their advantages and weights."""
