"""Who may call: the keys that tokens are signed with, revoked tokens, and foreign issuers."""
