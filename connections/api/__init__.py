"""HTTP of the upper floor: connections of the management REST."""
