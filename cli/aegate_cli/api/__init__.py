"""`aegate ae`, `aegate queue`, `aegate study`: what an operator on call needs, asked of the API over HTTP."""
