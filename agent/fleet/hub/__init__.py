"""The hub: follows the agents instead of phones. Pure parts first, the shell around them last."""
