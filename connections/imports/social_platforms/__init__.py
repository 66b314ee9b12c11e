"""From the old social-platforms tables (seed 000's migration, phase 2) into providers and connections."""
