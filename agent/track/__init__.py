"""From what sources see to the states that count: who a phone is, and in which state since when."""
