"""Who is it, beyond local tokens: OIDC bearer tokens and Kubernetes tokens, and how both become permissions."""
