"""From the joules of accelerators to the bill of a site."""
