"""A page to work in, on this machine: `cfkit app`."""
