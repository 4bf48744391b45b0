"""The numbers of a site or a weight, as everything that shows them needs them."""
