"""From files to rows, and from rows to prompts."""
