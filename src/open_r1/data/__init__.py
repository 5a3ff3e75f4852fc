"""From files to rows to prompts: reads JSON and pictures, hands `Row`s to training, evaluation and collecting."""
