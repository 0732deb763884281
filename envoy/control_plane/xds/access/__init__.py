"""Who may call, in Envoy's words: the filters that check tokens, and what each route asks for."""
