"""One inference replica: answers texts with labels, and swaps model versions under traffic."""
