"""Teachers behind an API or a server of your own: requests out, replies with their tokens, prices and failures back."""
