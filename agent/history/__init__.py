"""What phones went through, reckoned up. Pure: transitions and watched times in, figures out."""
