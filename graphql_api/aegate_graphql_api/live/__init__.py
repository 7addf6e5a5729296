"""What happens, as it happens: subscriptions, and the transports that carry them."""
